//! What candle's BERT makes of sentences in single precision, as the tests compare with: `embed_reference FOLDER <sentences`
//! prints JSON, from one sentence a line. FOLDER is all-MiniLM-L6-v2 as sentence-transformers saved it (mean pooling, normalised).

use std::{error::Error, io::BufRead as _, path::PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use tokenizers::Tokenizer;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("the model's folder is missing")?);
    let config: Config = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    let mut tokenizer = Tokenizer::from_file(folder.join("tokenizer.json"))?;
    tokenizer.with_truncation(None)?;
    tokenizer.with_padding(None);
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu)?;
    let model = BertModel::load(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu), &config)?;
    let mut rows = Vec::new();
    for text in std::io::stdin().lock().lines() {
        let text = text?;
        let encoding = tokenizer.encode_fast(text.as_str(), true)?;
        let ids = Tensor::new(encoding.get_ids(), &Device::Cpu)?.unsqueeze(0)?;
        let mean = model.forward(&ids, &ids.zeros_like()?, None)?.squeeze(0)?.mean(0)?;
        let length = mean.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
        // Six digits are far finer than any tolerance.
        let row: Vec<f64> =
            mean.to_vec1::<f32>()?.iter().map(|v| (f64::from(v / length) * 1e6).round() / 1e6).collect();
        rows.push(serde_json::json!({ "text": text, "tokens": encoding.get_ids().len(), "embedding": row }));
    }
    println!("{}", serde_json::to_string(&rows)?);
    Ok(())
}
