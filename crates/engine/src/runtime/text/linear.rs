//! Matrices of a model and the products with them: our kernels for the block formats they pack, candle's for all others.

use std::sync::Arc;

use candle_core::{
    Device, Module, Tensor,
    quantized::{QMatMul, QTensor},
};
use zero2ai_kernels::{KernelError, Packed, Path, Pool, Product, Rows, multiply};

use super::gguf::bad;
use crate::error::EngineError;

/// A matrix as it was loaded. Cheap to clone.
#[derive(Clone)]
pub(super) enum Weights {
    /// For our kernels.
    Packed(Arc<Packed>),
    /// For candle's.
    Candle(Arc<QTensor>),
}

impl Weights {
    /// Rows `ids` as plain numbers, one after the other: `width` of them each.
    pub(super) fn look_up(&self, ids: &[u32], width: usize) -> Result<Vec<f32>, EngineError> {
        match self {
            Self::Packed(packed) => {
                let mut rows = vec![0.0; ids.len().saturating_mul(width)];
                for (id, row) in ids.iter().zip(rows.chunks_mut(width)) {
                    packed.row(*id as usize, row).map_err(broken)?;
                }
                Ok(rows)
            }
            Self::Candle(tensor) => {
                let rows = || tensor.embedding(&Tensor::new(ids, &Device::Cpu)?)?.flatten_all()?.to_vec1();
                rows().map_err(|e| bad("the model does not run", &e))
            }
        }
    }
}

/// A matrix to multiply with.
pub(super) enum Linear {
    /// By our kernels.
    Packed(Arc<Packed>),
    /// By candle.
    Candle {
        /// The matrix.
        product: QMatMul,
        /// Its rows.
        outputs: usize,
    },
}

impl Linear {
    pub(super) fn new(weights: Weights) -> Result<Self, EngineError> {
        Ok(match weights {
            Weights::Packed(packed) => Self::Packed(packed),
            Weights::Candle(tensor) => {
                let outputs = tensor.shape().dims().first().copied().unwrap_or(0);
                let product = QMatMul::from_arc(tensor).map_err(|e| bad("a matrix cannot be used", &e))?;
                Self::Candle { product, outputs }
            }
        })
    }

    /// Numbers that come out for a row.
    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.n(),
            Self::Candle { outputs, .. } => *outputs,
        }
    }
}

/// What computes.
pub(super) struct Machine {
    /// The threads.
    pub(super) pool: Pool,
    /// The instruction set.
    pub(super) path: Path,
}

impl Machine {
    /// As many threads as the worker was given.
    pub(super) fn new() -> Result<Self, EngineError> {
        let pool = Pool::new(candle_core::utils::get_num_threads().max(1)).map_err(broken)?;
        Ok(Self { pool, path: Path::best() })
    }

    /// Multiplies the same rows `x` of `width` numbers with several matrices. `rows` is memory to round them in.
    pub(super) fn multiply(
        &self,
        rows: &mut Rows,
        x: &[f32],
        width: usize,
        products: &mut [(&Linear, &mut [f32])],
    ) -> Result<(), EngineError> {
        let mut ours = Vec::with_capacity(products.len());
        for (linear, out) in products {
            match linear {
                Linear::Packed(weights) => ours.push(Product { weights, out }),
                Linear::Candle { product, .. } => {
                    let number = x.len().checked_div(width).unwrap_or(0);
                    let run = || {
                        let x = Tensor::from_slice(x, (number, width), &Device::Cpu)?;
                        product.forward(&x)?.flatten_all()?.to_vec1::<f32>()
                    };
                    let values = run().map_err(|e| bad("the model does not run", &e))?;
                    if values.len() != out.len() {
                        return Err(EngineError::model("a matrix gives another number of values than its shape says"));
                    }
                    out.copy_from_slice(&values);
                }
            }
        }
        if ours.is_empty() {
            return Ok(());
        }
        rows.fill(&self.pool, x, width).map_err(broken)?;
        multiply(&self.pool, rows, &mut ours).map_err(broken)
    }
}

/// A kernel's error: sizes were checked at load, so it is not the caller's fault.
pub(super) fn broken(error: KernelError) -> EngineError {
    EngineError::worker(format!("the model could not be computed: {error}"))
}
