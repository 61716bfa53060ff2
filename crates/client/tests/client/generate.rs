//! Text: token by token, and on at the next provider when one breaks down.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use zero2ai_client::{ClientError, TextEnd, TextEvent};
use zero2ai_proto::{
    calls::{GenerateInput, Prompt, Sampling, StopReason},
    receipt::{Receipt, Status},
};

use crate::{
    chain::{Chain, LONG, MODEL},
    node::{Manners, Node, client, start},
};

const TOKENS: u32 = 20;

/// Generates with `first` in front; gives the ids, the text and the end.
async fn text(chain: &Arc<Mutex<Chain>>, first: &Node) -> Result<(Vec<u32>, String, TextEnd), ClientError> {
    text_within(chain, first, LONG).await
}

async fn text_within(
    chain: &Arc<Mutex<Chain>>,
    first: &Node,
    patience: Duration,
) -> Result<(Vec<u32>, String, TextEnd), ClientError> {
    let client = client(chain, first).await;
    let mut found = client.resolve(&MODEL.parse().unwrap(), false).await.unwrap();
    found.endpoints.sort_by_key(|e| e.node != first.id);
    let sampling = Sampling { max_tokens: TOKENS, ..Sampling::default() };
    let input = GenerateInput { prompt: Prompt::Text("once".into()), sampling, resume: Vec::new() };
    let mut stream = client.generate(&found, input, patience).await?;
    let (mut ids, mut all) = (Vec::new(), String::new());
    while let Some(event) = stream.next().await {
        match event? {
            TextEvent::Token(piece) => {
                ids.push(piece.id);
                all += &piece.text;
            }
            TextEvent::Done(end) => {
                assert!(stream.next().await.is_none());
                return Ok((ids, all, end));
            }
        }
    }
    panic!("no end")
}

fn expected() -> Vec<u32> {
    (100..100 + TOKENS).collect()
}

#[tokio::test]
async fn a_whole_text_ends_with_a_receipt() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let node = start(&chain, Some(1), Manners::Honest);
    let (ids, all, end) = text(&chain, &node).await.unwrap();
    assert_eq!(ids, expected());
    assert!(all.starts_with("100 101 "));
    assert_eq!((end.node, end.reason, end.prompt_tokens, end.failed), (node.id, StopReason::Length, 3, 0));
    assert_eq!(end.receipts.len(), 1);
}

#[tokio::test]
async fn the_next_provider_goes_on_where_the_first_broke_down() {
    // Before its first token, in the middle, just after a checkpoint, and after its last token.
    for after in [0, 6, 8, TOKENS as usize - 1] {
        let chain = Arc::new(Mutex::new(Chain::new()));
        let dying = start(&chain, Some(1), Manners::DiesAfter(after));
        let heir = start(&chain, Some(1), Manners::Honest);
        let (ids, _, end) = text(&chain, &dying).await.unwrap();
        assert_eq!(ids, expected(), "nothing is missing and nothing is doubled");
        assert_eq!((end.node, end.failed), (heir.id, 1));
        let (request, resume) = heir.served.generations.lock().unwrap()[0].clone();
        assert_eq!(resume, expected()[..after]);
        // The receipts link: the second request names the last checkpoint of the first.
        let checkpoint = dying.served.receipts.lock().unwrap().last().cloned();
        let parent = checkpoint.as_ref().map(|r: &Receipt| r.id().unwrap());
        assert_eq!(request.parent, parent);
        assert_eq!(end.receipts.len(), 1 + usize::from(checkpoint.is_some()));
        let last = end.receipts.last().unwrap().response.read_unverified().unwrap();
        assert_eq!(last.status, Status::Complete);
    }
}

#[tokio::test]
async fn one_that_gives_no_token_is_left_for_another_and_waited_for_where_there_is_none() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let (hangs, good) = (start(&chain, Some(1), Manners::Hangs), start(&chain, Some(1), Manners::Honest));
    let begun = std::time::Instant::now();
    let (ids, _, end) = text_within(&chain, &hangs, Duration::from_secs(60)).await.unwrap();
    assert_eq!(ids, expected());
    assert_eq!((end.node, end.failed, end.receipts.len()), (good.id, 1, 1));
    let took = begun.elapsed();
    assert!((10..30).contains(&took.as_secs()), "{took:?}");
    assert_eq!(hangs.served.generations.lock().unwrap().len(), 1);

    // Alone, it may truly have that much to do.
    let chain = Arc::new(Mutex::new(Chain::new()));
    let alone = start(&chain, Some(1), Manners::Hangs);
    let error = text_within(&chain, &alone, Duration::from_secs(13)).await.unwrap_err();
    assert_eq!(error.kind(), zero2ai_client::ErrorKind::Timeout, "{error}");
    assert_eq!(alone.served.generations.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_signature_over_other_tokens_is_not_believed() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let (liar, heir) = (start(&chain, Some(1), Manners::Lies), start(&chain, Some(1), Manners::Honest));
    let (ids, _, end) = text(&chain, &liar).await.unwrap();
    assert_eq!(ids, expected());
    assert_eq!(end.node, heir.id, "the end is signed by one who tells the truth");
    let alone = Arc::new(Mutex::new(Chain::new()));
    let error = text(&alone, &start(&alone, Some(1), Manners::Lies)).await.unwrap_err();
    assert!(matches!(error, ClientError::Exhausted { tried: 1, .. }), "{error}");
}
