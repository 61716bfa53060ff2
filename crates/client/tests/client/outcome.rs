//! Outcomes: what was true of a call reaches the model's owner, sealed, and no more of the call than it needs.

use std::sync::{Arc, Mutex};

use zero2ai_client::{Client, ClientError, ErrorKind, Prediction};
use zero2ai_proto::{
    outcome::{Shown, Truth},
    tensor::Tensor,
};

use crate::{
    chain::{Chain, LONG, MODEL},
    node::{Manners, Node, client, start, start_as},
};

/// A provider, the owner's node, a client that begins at both, and one answer: rows of scores 3 and -4, 1 and 8.
async fn answered() -> (Node, Node, Client, Prediction) {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let owner = chain.lock().unwrap().admin.clone();
    let (provider, owner) = (start(&chain, Some(1), Manners::Honest), start_as(owner, &chain, None, Manners::Honest));
    let client = Client::connect(crate::node::config(&chain, &[&provider, &owner])).await.unwrap();
    let found = client.resolve(&MODEL.parse().unwrap(), false).await.unwrap();
    let input = vec![Tensor::f32("x", &[2, 2], &[1.5, -2.0, 0.5, 4.0])];
    let answer = client.predict(&found, input, LONG).await.unwrap();
    (provider, owner, client, answer)
}

#[tokio::test]
async fn what_was_true_reaches_the_owner_sealed_with_what_it_needs() {
    let (_provider, owner, client, answer) = answered().await;
    let truths = || vec![Truth::Class(0), Truth::Class(0)];
    let told = |truths, with_input| client.tell_outcome(answer.kept(), truths, with_input, LONG);
    let sent = told(truths(), false).await.unwrap();
    assert_eq!((sent.owner, sent.fresh), (owner.id, true));
    assert!(!told(truths(), true).await.unwrap().fresh, "it counts once");
    assert!(!told(vec![Truth::Right(false)], false).await.unwrap().fresh);
    let outcomes = owner.served.outcomes.lock().unwrap();
    let (checked, shown) = &outcomes[0];
    assert_eq!(checked.rows, [(Some(0), true), (Some(1), false)]);
    assert_eq!((checked.account, &checked.request.name), (client.id(), &MODEL.parse().unwrap()));
    assert!(shown.input.is_none() && shown.input_salt.is_empty() && shown.output.is_some());
    assert!(outcomes[1].1.input.is_some());
    assert_eq!(outcomes[2].1, Shown::default(), "a word on the whole call needs nothing of it");
}

#[tokio::test]
async fn what_cannot_be_told_is_told_before_anything_is_sent() {
    let (_provider, owner, client, answer) = answered().await;
    let mut altered = answer.kept();
    altered.output = zero2ai_proto::kept::CallOutput::Tensors(vec![]);
    for (call, truths) in [
        (altered, vec![Truth::Right(true)]),
        (answer.kept(), vec![Truth::Right(true); 3]),
        (answer.kept(), vec![Truth::Class(1)]),
        (answer.kept(), vec![]),
    ] {
        let error = client.tell_outcome(call, truths, false, LONG).await.unwrap_err();
        assert!(matches!(error, ClientError::Outcome(_)) && error.kind() == ErrorKind::Invalid, "{error}");
    }
    let chain = Arc::new(Mutex::new(Chain::new()));
    let elsewhere = start(&chain, None, Manners::Honest);
    let other = self::client(&chain, &elsewhere).await;
    let error = other.tell_outcome(answer.kept(), vec![Truth::Right(true)], false, LONG).await.unwrap_err();
    assert!(matches!(error, ClientError::Outcome(_)), "of another pool: {error}");
    assert_eq!(owner.served.outcomes.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn an_owner_that_is_away_is_unreachable() {
    let (_provider, owner, client, answer) = answered().await;
    owner.stop.cancel();
    owner.task.await.unwrap();
    let error = client.tell_outcome(answer.kept(), vec![Truth::Right(true)], false, LONG).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout), "{error}");
}
