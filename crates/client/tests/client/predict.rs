//! Predictions: the nearest answers, and the next one when it is gone, full, or lies.

use std::sync::{Arc, Mutex, atomic::Ordering};

use zero2ai_client::{Client, ClientError, Resolution};
use zero2ai_proto::{NodeId, rpc::ErrorCode, tensor::Tensor};

use crate::{
    chain::{Chain, LONG, MODEL},
    node::{Manners, Node, client, start},
};

fn input() -> Vec<Tensor> {
    vec![Tensor::f32("x", &[1, 2], &[1.5, -2.0])]
}

/// A client, and the model resolved with `first` in front.
async fn resolved(chain: &Arc<Mutex<Chain>>, first: &Node) -> (Client, Resolution) {
    let client = client(chain, first).await;
    let mut found = client.resolve(&MODEL.parse().unwrap(), false).await.unwrap();
    put_first(&mut found, first.id);
    (client, found)
}

/// On loopback all are equally near: tests choose.
fn put_first(found: &mut Resolution, node: NodeId) {
    found.endpoints.sort_by_key(|e| e.node != node);
}

#[tokio::test]
async fn an_answer_comes_with_a_receipt_that_holds() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let node = start(&chain, Some(1), Manners::Honest);
    let (client, found) = resolved(&chain, &node).await;
    let answer = client.predict(&found, input(), LONG).await.unwrap();
    assert_eq!(answer.outputs[0].to_f32().unwrap(), [3.0, -4.0]);
    let (account, request, _) = answer.receipt.verify(&client.pool()).unwrap();
    assert_eq!((account, request.provider, answer.failed), (client.id(), node.id, 0));
    assert_eq!(*node.served.receipts.lock().unwrap(), [answer.receipt]);
}

#[tokio::test]
async fn a_node_that_is_full_or_lies_is_passed_over() {
    for manners in [Manners::Busy, Manners::Lies, Manners::Overbills] {
        let chain = Arc::new(Mutex::new(Chain::new()));
        let (bad, good) = (start(&chain, Some(1), manners), start(&chain, Some(1), Manners::Honest));
        let (client, found) = resolved(&chain, &bad).await;
        let answer = client.predict(&found, input(), LONG).await.unwrap();
        assert_eq!((answer.node, answer.failed), (good.id, 1), "{manners:?}");
        // It is not asked first again, though the resolution still says so.
        assert_eq!(client.predict(&found, input(), LONG).await.unwrap().failed, 0);
        assert_eq!(bad.served.predictions.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn one_that_says_it_is_crowded_is_left_with_the_next_call() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let (crowded, idle) = (start(&chain, Some(1), Manners::Crowded(500)), start(&chain, Some(1), Manners::Honest));
    let (client, found) = resolved(&chain, &crowded).await;
    let first = client.predict(&found, input(), LONG).await.unwrap();
    assert_eq!(first.node, crowded.id, "nobody has said anything yet");
    let second = client.predict(&found, input(), LONG).await.unwrap();
    assert_eq!((second.node, second.failed), (idle.id, 0));
}

#[tokio::test]
async fn one_that_does_not_keep_to_its_word_is_left_within_two_seconds() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let (hangs, good) = (start(&chain, Some(1), Manners::Hangs), start(&chain, Some(1), Manners::Honest));
    let (client, found) = resolved(&chain, &hangs).await;
    let answer = client.predict(&found, input(), LONG).await.unwrap();
    assert_eq!((answer.node, answer.failed), (good.id, 1));
    assert!(answer.took < std::time::Duration::from_secs(2), "{:?}", answer.took);
    assert_eq!(client.predict(&found, input(), LONG).await.unwrap().failed, 0, "it rests for a while");
    // A ping says that it is there, not that it answers.
    let again = client.resolve(&MODEL.parse().unwrap(), true).await.unwrap();
    assert_eq!(client.predict(&again, input(), LONG).await.unwrap().node, good.id);
    assert_eq!(hangs.served.predictions.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_that_may_be_much_work_is_waited_for_where_there_is_no_other() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let node = start(&chain, Some(1), Manners::Hangs);
    let (client, found) = resolved(&chain, &node).await;
    let error = client.predict(&found, input(), std::time::Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(error.kind(), zero2ai_client::ErrorKind::Timeout, "{error}");
    assert_eq!(node.served.predictions.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn that_the_request_is_at_fault_takes_two_to_say() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let (one, good) = (start(&chain, Some(1), Manners::Blames), start(&chain, Some(1), Manners::Honest));
    let (client, found) = resolved(&chain, &one).await;
    let answer = client.predict(&found, input(), LONG).await.unwrap();
    assert_eq!((answer.node, answer.failed), (good.id, 1));

    let two = start(&chain, Some(1), Manners::Blames);
    let (client, mut found) = resolved(&chain, &one).await;
    found.endpoints.sort_by_key(|e| [one.id, two.id, good.id].iter().position(|id| *id == e.node));
    let error = client.predict(&found, input(), LONG).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Clock), "{error}");
    assert_eq!(good.served.predictions.load(Ordering::SeqCst), 1, "the third was not troubled");
}

#[tokio::test]
async fn an_old_answer_is_not_taken_for_a_new_one() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let node = start(&chain, Some(1), Manners::Replays);
    let (client, found) = resolved(&chain, &node).await;
    client.predict(&found, input(), LONG).await.unwrap();
    let error = client.predict(&found, input(), LONG).await.unwrap_err();
    assert!(error.to_string().contains("answers another request"), "{error}");
}

#[tokio::test]
async fn a_node_that_is_gone_is_passed_over() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let (gone, good) = (start(&chain, Some(1), Manners::Honest), start(&chain, Some(1), Manners::Honest));
    let (client, found) = resolved(&chain, &gone).await;
    assert_eq!(client.predict(&found, input(), LONG).await.unwrap().node, gone.id);
    gone.stop.cancel();
    gone.task.await.unwrap();
    let answer = client.predict(&found, input(), LONG).await.unwrap();
    assert_eq!((answer.node, answer.failed), (good.id, 1));
}

#[tokio::test]
async fn what_cannot_succeed_is_told_clearly() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let node = start(&chain, Some(1), Manners::Busy);
    let (client, mut found) = resolved(&chain, &node).await;
    let all = client.predict(&found, input(), LONG).await.unwrap_err();
    assert!(matches!(all, ClientError::Exhausted { tried: 1, .. }), "{all}");
    assert!(node.served.predictions.load(Ordering::SeqCst) > 1, "it was asked again");
    assert_eq!(all.code(), Some(ErrorCode::Busy));
    let mut bent = input();
    bent[0].shape = vec![3];
    assert!(matches!(client.predict(&found, bent, LONG).await, Err(ClientError::Tensor(_))));
    assert!(matches!(client.predict(&found, Vec::new(), LONG).await, Err(ClientError::Tensors(0))));
    found.endpoints.clear();
    assert!(matches!(client.predict(&found, input(), LONG).await, Err(ClientError::NoEndpoint { .. })));
}
