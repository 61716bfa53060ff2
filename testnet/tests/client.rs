//! The Rust example of README.md, run as it is written against a real node.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{path::Path, time::Duration};

use zero2ai_client::Client;
use zero2ai_proto::tensor::Tensor;
use zero2ai_testnet::{Network, fixture};

/// The lines between the two marks are the page's own.
async fn example() -> Result<(), Box<dyn std::error::Error>> {
    // begin
    let invite = std::fs::read_to_string("invite")?.trim().parse()?;
    let client = Client::open(Path::new("me.account"), Some(&invite)).await?;
    let found = client.find(&"acme/digits".parse()?).await?;
    let answer = client.predict(&found, vec![Tensor::f32("", &[1, 64], &[0.0; 64])], Duration::from_secs(30)).await?;
    println!("{:?} from {}", answer.outputs[0].to_f32()?, answer.node);
    // end
    let receipt = answer.receipt.verify(&client.pool())?.1;
    assert_eq!((receipt.provider, receipt.name.to_string()), (answer.node, "acme/digits".to_owned()));
    Ok(())
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_rust_example_runs_as_it_is_written() {
    let page = std::fs::read_to_string(fixture("../../README.md")).unwrap();
    let shown = page.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let run = include_str!("client.rs").split("// begin\n").nth(1).unwrap().split("// end").next().unwrap();
    assert_eq!(lines(shown), lines(run));
    assert!(lines(shown).len() <= 5);

    let network = Network::start(1).unwrap();
    let digits = fixture("digits/digits.onnx");
    network.nodes[0].json(&["publish", digits.to_str().unwrap(), "--name", "acme/digits", "--replicas", "0"]).unwrap();
    std::fs::write(network.path().join("invite"), network.invite("member").unwrap() + "\n").unwrap();
    // This test is alone in its process: nobody else minds where it stands.
    std::env::set_current_dir(network.path()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(example()).unwrap();
}
