//! Samples of outcomes: what is signed, what is sealed, and the methods that carry them.

use zero2ai_proto::{
    calls as c,
    kept::KeptCall,
    local as l,
    outcome::{Outcome, OutcomeInfo, OutcomeReport, Shown, Truth},
};

use super::{Vectors, bytes, key, models, name, pool, sign};

pub(crate) fn add(v: &mut Vectors) {
    let call = models::kept();
    let KeptCall { receipt, input, .. } = call.clone();
    let id = receipt.id().unwrap();
    let truths = vec![Truth::Right(false)];
    v.add("outcome/truth_class", &Truth::Class(3));
    v.add("outcome/truth_right", &Truth::Right(true));
    let outcome = Outcome { receipt: id, truths: truths.clone(), time_ms: 1_700_000_009_000 };
    v.add("outcome/outcome", &outcome);
    v.add("outcome/info", &OutcomeInfo::new(pool(), key(5).public(), key(1).public()));
    let shown = Shown::of(call, &truths, true).unwrap();
    v.add("outcome/shown", &shown);
    let report = OutcomeReport::new(sign(&outcome, 5), receipt.clone(), shown);
    report.check(&pool()).unwrap();
    v.add("outcome/report", &report);
    v.add("calls/outcome", &c::OutcomeCall { encapsulated: bytes(0x21, 32), ciphertext: bytes(0x22, 24) });
    v.add("calls/outcome_taken", &c::OutcomeTaken { fresh: true });
    let send = l::OutcomeSendCall { receipt, truths: vec![Truth::Right(true)], shown: Shown::default() };
    v.add("local/outcome_send", &send);
    let why = Some("it does not answer".to_owned());
    v.add("local/outcome_sent", &l::OutcomeSent { owner: key(1).public(), fresh: None, why, waiting: 2 });
    v.add("local/outcomes", &l::OutcomesCall { name: name(), inputs: true, from: 17 });
    let alarm = l::Alarm {
        version: 3,
        time_ms: 1_700_000_010_000,
        height: 77,
        detector: "adwin, ddm".into(),
        rows: 96,
        before_ppm: 20_000,
        after_ppm: 600_000,
        round: Some(2),
        accounts: 2,
        needed: 3,
    };
    let version = l::VersionOutcomes {
        version: 3,
        outcomes: 12,
        rows: 96,
        wrong: 20,
        late_ppm: 600_000,
        window: 40,
        warned: true,
        alarms: vec![alarm],
    };
    v.add("local/outcomes_version", &l::OutcomesItem::Version(version));
    let told = l::ToldOutcome {
        receipt: id,
        account: key(5).public(),
        provider: key(2).public(),
        version: 3,
        answered_ms: 1_700_000_000_500,
        told_ms: 1_700_000_009_100,
        truths,
        rows: vec![(Some(3), true), (None, false)],
        has_input: true,
        input: Some(input),
    };
    v.add("local/outcomes_outcome", &l::OutcomesItem::Outcome(Box::new(told)));
    v.add("local/outcomes_end", &l::OutcomesItem::End(l::OutcomesEnd { next: Some(1_017), damaged: 1 }));
}
