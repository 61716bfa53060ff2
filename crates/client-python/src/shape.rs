//! Rust values as Python's: dictionaries of plain values, and arrays of bytes that numpy is shown without a copy.

use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::{
    Bound, Py, PyAny, PyResult, Python, pyclass, pymethods,
    types::{PyBytes, PyDict, PyDictMethods as _, PyList, PyListMethods as _},
};
use zero2ai_client::{OutcomeSent, Prediction, Resolution, ResolvedEndpoint, TextEnd};
use zero2ai_proto::{
    ByteBuf, PoolId,
    calls::StopReason,
    encode,
    kept::{CallInput, CallOutput, KeptCall},
    manifest::Task,
    receipt::{Receipt, Status},
    record::Address,
    tensor::{DType, Tensor, TensorSpec},
    worker::ModelInfo,
};

use crate::failure::Failure;

/// Element types by numpy's names.
const DTYPES: [(DType, &str); 7] = [
    (DType::F32, "float32"),
    (DType::F64, "float64"),
    (DType::F16, "float16"),
    (DType::I64, "int64"),
    (DType::I32, "int32"),
    (DType::U8, "uint8"),
    (DType::Bool, "bool"),
];

fn word(dtype: DType) -> &'static str {
    DTYPES.iter().find(|(known, _)| *known == dtype).map_or("", |(_, word)| word)
}

/// One input: name, numpy's name of the element type, shape, and its little-endian bytes as a flat array.
pub(crate) type Input<'py> = (String, String, Vec<u64>, PyReadonlyArray1<'py, u8>);

/// An input as a tensor. Its bytes are copied once, into the message that is signed and sent.
pub(crate) fn tensor(input: &Input<'_>) -> Result<Tensor, Failure> {
    let (name, dtype, shape, data) = input;
    let (dtype, _) = DTYPES.iter().find(|(_, word)| word == dtype).ok_or_else(|| {
        let known = DTYPES.map(|(_, word)| word).join(", ");
        Failure::invalid(format!("no model takes elements of type {dtype}: convert the array to one of {known}"))
    })?;
    let data = data.as_slice().map_err(Failure::invalid)?.to_vec();
    let tensor = Tensor { name: name.clone(), dtype: *dtype, shape: shape.clone(), data: ByteBuf::from(data) };
    tensor.check().map_err(Failure::invalid)?;
    Ok(tensor)
}

/// An output: as [`Input`]. The bytes become the array's own.
fn output<'py>(py: Python<'py>, tensor: Tensor) -> PyResult<Bound<'py, PyAny>> {
    let data = PyArray1::from_vec(py, tensor.data.into_vec());
    let parts = (tensor.name, word(tensor.dtype), tensor.shape, data);
    Ok(pyo3::IntoPyObject::into_pyobject(parts, py)?.into_any())
}

/// A receipt that was checked. Verifying it again is how it is read.
fn receipt<'py>(py: Python<'py>, receipt: &Receipt, pool: &PoolId) -> PyResult<Bound<'py, PyDict>> {
    let wrong = |e: &dyn std::fmt::Display| Failure::new("unverified", e.to_string()).raise(py);
    let (_, request, response) = receipt.verify(pool).map_err(|e| wrong(&e))?;
    let encoded = encode(receipt).map_err(|e| wrong(&e))?;
    let dict = PyDict::new(py);
    dict.set_item("id", receipt.id().map_err(|e| wrong(&e))?.to_string())?;
    dict.set_item("account", receipt.request.signer().to_string())?;
    dict.set_item("provider", request.provider.to_string())?;
    dict.set_item("name", request.name.to_string())?;
    dict.set_item("version", request.version)?;
    dict.set_item("manifest", request.manifest.to_string())?;
    dict.set_item("units", response.units)?;
    dict.set_item("status", status(response.status))?;
    dict.set_item("time_ms", response.time_ms)?;
    dict.set_item("encoded", PyBytes::new(py, &encoded))?;
    Ok(dict)
}

pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Complete => "complete",
        Status::Checkpoint => "checkpoint",
        Status::Cancelled => "cancelled",
    }
}

fn receipts<'py>(py: Python<'py>, all: &[Receipt], pool: &PoolId) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, all.iter().map(|r| receipt(py, r, pool)).collect::<PyResult<Vec<_>>>()?)
}

/// A call as it may be kept: what was sent and what came, with both signatures.
#[pyclass(frozen)]
pub(crate) struct Call(KeptCall);

#[pymethods]
impl Call {
    /// The bytes that `--save-call` of the `zero2ai` program writes.
    fn encode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = encode(&[&self.0]).map_err(|e| Failure::invalid(e).raise(py))?;
        Ok(PyBytes::new(py, &bytes))
    }
}

/// A prediction. It holds its inputs, too, for as long as it is held.
pub(crate) fn prediction(py: Python<'_>, answer: Prediction, pool: &PoolId) -> PyResult<Py<PyAny>> {
    let dict = PyDict::new(py);
    let (inputs, outputs) = (CallInput::Tensors(answer.inputs), CallOutput::Tensors(answer.outputs.clone()));
    dict.set_item("call", Py::new(py, Call(KeptCall::new(answer.receipt.clone(), answer.salt, inputs, outputs)))?)?;
    let outputs = PyList::empty(py);
    for tensor in answer.outputs {
        outputs.append(output(py, tensor)?)?;
    }
    dict.set_item("outputs", outputs)?;
    dict.set_item("receipt", receipt(py, &answer.receipt, pool)?)?;
    dict.set_item("node", answer.node.to_string())?;
    dict.set_item("took", answer.took.as_secs_f64())?;
    dict.set_item("failed", answer.failed)?;
    Ok(dict.into_any().unbind())
}

/// A provider's proved receipts with their places in its log.
pub(crate) fn logged(py: Python<'_>, found: &[(u64, Receipt)], pool: &PoolId) -> PyResult<Py<PyAny>> {
    let list = PyList::empty(py);
    for (index, one) in found {
        let dict = receipt(py, one, pool)?;
        dict.set_item("index", index)?;
        list.append(dict)?;
    }
    Ok(list.into_any().unbind())
}

/// A name, resolved.
pub(crate) fn resolution(py: Python<'_>, found: &Resolution) -> PyResult<Py<PyAny>> {
    let dict = PyDict::new(py);
    dict.set_item("name", found.name.to_string())?;
    dict.set_item("version", found.version)?;
    dict.set_item("manifest", found.manifest.to_string())?;
    dict.set_item("publisher", found.entry.publisher.to_string())?;
    dict.set_item("task", task(&found.entry.task))?;
    dict.set_item("bytes", found.entry.bytes)?;
    dict.set_item("height", found.height)?;
    dict.set_item("record_age", found.record_age.as_secs_f64())?;
    dict.set_item("took", found.took.as_secs_f64())?;
    let endpoints = found.endpoints.iter().map(|e| endpoint(py, e)).collect::<PyResult<Vec<_>>>()?;
    dict.set_item("endpoints", endpoints)?;
    Ok(dict.into_any().unbind())
}

fn endpoint<'py>(py: Python<'py>, endpoint: &ResolvedEndpoint) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("node", endpoint.node.to_string())?;
    let text = |a: &Address| match a {
        Address::Rpc(text) | Address::Swarm(text) => text.clone(),
    };
    dict.set_item("addresses", endpoint.addresses.iter().map(text).collect::<Vec<_>>())?;
    dict.set_item("rtt", endpoint.rtt.map(|d| d.as_secs_f64()))?;
    dict.set_item("queue", std::time::Duration::from_micros(endpoint.queue_us).as_secs_f64())?;
    Ok(dict)
}

fn task(task: &Task) -> &'static str {
    match task {
        Task::Tensors => "tensors",
        Task::Classify { .. } => "classify",
        Task::Generate { .. } => "generate",
        Task::Embed { .. } => "embed",
    }
}

/// What a model takes and gives.
pub(crate) fn model(py: Python<'_>, info: &ModelInfo) -> PyResult<Py<PyAny>> {
    let dict = PyDict::new(py);
    dict.set_item("task", task(&info.task))?;
    dict.set_item("architecture", &info.architecture)?;
    dict.set_item("runtime", &info.runtime)?;
    dict.set_item("parameters", info.parameters)?;
    let spec = |s: &TensorSpec| (s.name.clone(), word(s.dtype), s.shape.clone());
    dict.set_item("inputs", info.inputs.iter().map(spec).collect::<Vec<_>>())?;
    dict.set_item("outputs", info.outputs.iter().map(spec).collect::<Vec<_>>())?;
    Ok(dict.into_any().unbind())
}

/// An outcome that was told.
pub(crate) fn outcome(py: Python<'_>, sent: &OutcomeSent) -> PyResult<Py<PyAny>> {
    let dict = PyDict::new(py);
    dict.set_item("owner", sent.owner.to_string())?;
    dict.set_item("fresh", sent.fresh)?;
    Ok(dict.into_any().unbind())
}

/// How a text ended.
pub(crate) fn end(py: Python<'_>, end: &TextEnd, pool: &PoolId) -> PyResult<Py<PyAny>> {
    let dict = PyDict::new(py);
    let reason = match end.reason {
        StopReason::EndOfText => "end_of_text",
        StopReason::StopString => "stop_string",
        StopReason::Length => "length",
        StopReason::Context => "context",
    };
    dict.set_item("reason", reason)?;
    dict.set_item("node", end.node.to_string())?;
    dict.set_item("prompt_tokens", end.prompt_tokens)?;
    dict.set_item("failed", end.failed)?;
    dict.set_item("receipts", receipts(py, &end.receipts, pool)?)?;
    let call = end.calls.last().map(|call| Py::new(py, Call(call.clone()))).transpose()?;
    dict.set_item("call", call)?;
    Ok(dict.into_any().unbind())
}
