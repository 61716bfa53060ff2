//! What is refused before tract sees it: operators it does not do right, data outside the file.

use tract_onnx::{
    Onnx,
    pb::{GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto},
};

use crate::error::EngineError;

/// Operators that are registered but not done right, or that answer differently every time.
const REFUSED: &[(&str, &str)] = &[
    ("If", "the embedded runtime fails where branches give different shapes"),
    ("Multinomial", "its answers are random and could not be audited"),
    ("RandomNormal", "its answers are random and could not be audited"),
    ("RandomNormalLike", "its answers are random and could not be audited"),
    ("RandomUniform", "its answers are random and could not be audited"),
    ("RandomUniformLike", "its answers are random and could not be audited"),
];

/// Place of a tensor's data outside the file (`TensorProto.DataLocation.EXTERNAL`).
const EXTERNAL: i32 = 1;

/// Checks every node and tensor, those in subgraphs included; answers the number of parameters.
pub(super) fn check(model: &ModelProto, onnx: &Onnx) -> Result<u64, EngineError> {
    let graph = model.graph.as_ref().ok_or_else(|| EngineError::model("the ONNX file holds no graph"))?;
    if !model.functions.is_empty() {
        return Err(EngineError::model("the ONNX file defines functions of its own; export it with them inlined"));
    }
    check_graph(graph, onnx)
}

fn check_graph(graph: &GraphProto, onnx: &Onnx) -> Result<u64, EngineError> {
    if !graph.sparse_initializer.is_empty() {
        return Err(EngineError::model("the ONNX file has sparse tensors, which the embedded runtime passes over"));
    }
    let mut parameters = 0_u64;
    for tensor in &graph.initializer {
        check_tensor(tensor)?;
        let count = tensor.dims.iter().try_fold(1_u64, |n, d| n.checked_mul(u64::try_from(*d).ok()?));
        let count =
            count.ok_or_else(|| EngineError::model(format!("tensor '{}' has an impossible shape", tensor.name)))?;
        parameters = parameters.saturating_add(count);
    }
    for node in &graph.node {
        check_operator(node, onnx)?;
        for attribute in &node.attribute {
            attribute.t.iter().chain(&attribute.tensors).try_for_each(check_tensor)?;
            let sparse: Option<&SparseTensorProto> =
                attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).next();
            if sparse.is_some() {
                return Err(EngineError::model(
                    "the ONNX file has sparse tensors, which the embedded runtime passes over",
                ));
            }
            for subgraph in attribute.g.iter().chain(&attribute.graphs) {
                parameters = parameters.saturating_add(check_graph(subgraph, onnx)?);
            }
        }
    }
    Ok(parameters)
}

fn check_operator(node: &NodeProto, onnx: &Onnx) -> Result<(), EngineError> {
    let name = &node.op_type;
    let refuse = |why: &str| {
        let full = if node.domain.is_empty() { name.clone() } else { format!("{}.{name}", node.domain) };
        Err(EngineError::model(format!(
            "the model uses the operator {full}, which is not run here: {why}; export the model without it"
        )))
    };
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        return refuse(
            "only operators of ai.onnx are; trees and scalers of ai.onnx.ml were seen to give wrong answers",
        );
    }
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| refused == name) {
        return refuse(why);
    }
    if onnx.op_register.0.contains_key(name) { Ok(()) } else { refuse("the embedded runtime does not know it") }
}

fn check_tensor(tensor: &TensorProto) -> Result<(), EngineError> {
    if tensor.data_location == Some(EXTERNAL) || !tensor.external_data.is_empty() {
        return Err(EngineError::model(format!(
            "tensor '{}' lies outside the ONNX file, which is not followed; save the model as one file",
            tensor.name
        )));
    }
    Ok(())
}
