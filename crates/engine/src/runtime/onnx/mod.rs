//! ONNX on tract, embedded: pure Rust, and refusing by operator name what it is known to get wrong.

mod convert;
mod inputs;
mod inspect;

use std::{sync::Arc, time::Instant};

use tract_onnx::prelude::{
    Framework, InferenceModelExt, IntoRunnable, IntoTValue, Symbol, TVec, TypedModel, TypedRunnableModel,
};
use tract_onnx::tract_hir::internal::{DimFact, Factoid, GenericFactoid, InferenceFact, TDim};
use zero2ai_proto::{
    limits::{CLASSES, TENSORS},
    manifest::{ConformanceSample, Task},
    tensor::{DType, Tensor, TensorSpec},
    worker::{GenerateJob, ModelInfo},
};

use super::{Event, Meanwhile, Runtime, source::Source};
use crate::error::EngineError;

/// Version of the runtime as it is told to others: answers may differ in their last bits between versions.
const NAME: &str = "tract-onnx 0.23";

/// A model ready to run at any batch size.
pub(super) struct Onnx {
    plan: Arc<TypedRunnableModel>,
    info: ModelInfo,
    inputs: Vec<inputs::Input>,
}

/// A tract error as a fault of the model.
fn bad_model(what: &str, error: &tract_onnx::prelude::TractError) -> EngineError {
    EngineError::model(format!("{what}: {error:#}"))
}

impl Onnx {
    /// Ready at any size of its free dimensions; a model that cannot be made so is made for the sizes of its first sample, which
    /// are the same on every node.
    pub(super) fn load(source: &Source, samples: &[ConformanceSample]) -> Result<Self, EngineError> {
        match (Self::planned(source, &[]), samples.first()) {
            (Err(free), Some(sample)) => Self::planned(source, &sample.inputs).map_err(|_| free),
            (planned, _) => planned,
        }
    }

    /// Inputs that have a tensor of their name in `sizes` have its size where they have none.
    fn planned(source: &Source, sizes: &[Tensor]) -> Result<Self, EngineError> {
        let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
        let proto = onnx.proto_model_for_read(&mut source.reader()).map_err(|e| {
            let what = format!("'{}' is not a whole ONNX file; it may be cut short, publish it again", source.name());
            bad_model(&what, &e)
        })?;
        let parameters = inspect::check(&proto, &onnx)?;
        let mut model =
            onnx.model_for_proto_model(&proto).map_err(|e| bad_model("the ONNX graph does not hold together", &e))?;
        drop(proto);

        let mut inputs = Vec::new();
        let batch = model.symbols.sym("batch");
        let outlets = model.input_outlets().map_err(|e| bad_model("the graph's inputs cannot be read", &e))?.to_vec();
        for (index, outlet) in outlets.iter().enumerate() {
            let name = model.node(outlet.node).name.clone();
            let fact = model.outlet_fact(*outlet).map_err(|e| bad_model("an input has no type", &e))?.clone();
            let (dtype, mut dims) = input_shape(&name, &fact, &batch, || model.symbols.new_with_prefix("free"))?;
            if let Some(tensor) = sizes.iter().find(|t| t.name == name || t.name.is_empty() && sizes.len() == 1) {
                fix(&mut dims, &tensor.shape);
            }
            let typed = InferenceFact::dt_shape(convert::datum_type(dtype), dims.as_slice());
            model.set_input_fact(index, typed).map_err(|e| bad_model("an input's shape cannot be set", &e))?;
            inputs.push(inputs::Input { name, dtype, dims });
        }
        let typed = model.into_optimized().map_err(|e| {
            let what = "the model cannot be prepared for running; if it can be for fixed sizes alone, give samples of these \
                        (--samples)";
            bad_model(what, &e)
        })?;
        let outputs = output_specs(&typed)?;
        let info = ModelInfo {
            task: task(&outputs),
            architecture: "onnx".to_owned(),
            runtime: NAME.to_owned(),
            inputs: inputs.iter().map(inputs::Input::spec).collect(),
            outputs,
            parameters,
        };
        let plan = typed.into_runnable().map_err(|e| bad_model("the model cannot be planned", &e))?;
        Ok(Self { plan, info, inputs })
    }
}

impl Runtime for Onnx {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn predict(&mut self, given: &[Tensor], meanwhile: &mut Meanwhile<'_>) -> Result<Vec<Tensor>, EngineError> {
        // One that has begun cannot be stopped.
        meanwhile.check()?;
        let ordered = inputs::arrange(&self.inputs, given)?;
        let values = ordered.into_iter().map(|t| convert::to_tract(t).map(IntoTValue::into_tvalue));
        let values = values.collect::<Result<TVec<_>, _>>()?;
        let outputs = self.plan.run(values).map_err(|e| bad_model("the model failed on these inputs", &e))?;
        self.info.outputs.iter().zip(outputs).map(|(spec, value)| convert::from_tract(&spec.name, &value)).collect()
    }

    fn enter(&mut self, _: &GenerateJob, _: Instant) -> Result<(), EngineError> {
        Err(EngineError::input("this model takes tensors and does not generate text; use predict"))
    }

    fn leave(&mut self, _: u64) {}

    fn has_work(&self) -> bool {
        false
    }

    fn step(&mut self) -> Vec<Event> {
        Vec::new()
    }
}

/// An input's type and dimensions; unnamed free ones get symbols: the batch at axis 0 is the same for all inputs.
fn input_shape(
    name: &str,
    fact: &InferenceFact,
    batch: &Symbol,
    fresh: impl Fn() -> Symbol,
) -> Result<(DType, Vec<TDim>), EngineError> {
    let dtype = fact.datum_type.concretize().and_then(convert::dtype);
    let dtype =
        dtype.ok_or_else(|| EngineError::model(format!("input '{name}' is of a type this version cannot carry")))?;
    if fact.shape.is_open() {
        return Err(EngineError::model(format!(
            "input '{name}' does not say how many dimensions it has; export it with them"
        )));
    }
    let dims = fact.shape.dims().enumerate().map(|(axis, dim): (usize, &DimFact)| match dim {
        GenericFactoid::Only(dim) => dim.clone(),
        GenericFactoid::Any if axis == 0 => batch.clone().into(),
        GenericFactoid::Any => fresh().into(),
    });
    Ok((dtype, dims.collect()))
}

/// Gives free dimensions these sizes.
fn fix(dims: &mut [TDim], sizes: &[u64]) {
    for (dim, size) in dims.iter_mut().zip(sizes) {
        if let (None, Ok(size)) = (inputs::fixed(dim), i64::try_from(*size)) {
            *dim = size.into();
        }
    }
}

fn output_specs(model: &TypedModel) -> Result<Vec<TensorSpec>, EngineError> {
    let outlets = model.output_outlets().map_err(|e| bad_model("the graph's outputs cannot be read", &e))?;
    if outlets.is_empty() || outlets.len() > TENSORS {
        return Err(EngineError::model(format!("the model has {} outputs; 1 to {TENSORS} are allowed", outlets.len())));
    }
    let spec = |outlet: &tract_onnx::prelude::OutletId| {
        let fact = model.outlet_fact(*outlet).map_err(|e| bad_model("an output has no type", &e))?;
        let label = model.outlet_label(*outlet).unwrap_or(&model.node(outlet.node).name);
        let dtype = convert::dtype(fact.datum_type)
            .ok_or_else(|| EngineError::model(format!("output '{label}' is of a type this version cannot carry")))?;
        let shape = fact.shape.iter().map(inputs::fixed).collect();
        Ok(TensorSpec { name: label.to_owned(), dtype, shape })
    };
    outlets.iter().map(spec).collect()
}

/// One output of one score per class and row is a classifier; of anything else nothing more is known.
fn task(outputs: &[TensorSpec]) -> Task {
    match outputs {
        [TensorSpec { dtype: DType::F32, shape, .. }] => match shape.as_slice() {
            [_, Some(classes)] if (2..=CLASSES as u64).contains(classes) => {
                u16::try_from(*classes).map_or(Task::Tensors, |classes| Task::Classify { classes })
            }
            _ => Task::Tensors,
        },
        _ => Task::Tensors,
    }
}
