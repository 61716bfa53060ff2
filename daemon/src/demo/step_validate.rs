//! Step 3: three validators run the model on samples of their own and sign what they counted; a block that more than two
//! thirds of the signers' power signed makes it final.

use zero2ai_proto::{
    PublicKey,
    block::Header,
    calls::{Blocks, BlocksCall},
    decode,
    limits::SIGNED_BYTES,
    local::{LocalData, ValidateCall, ValidateReport},
    state::{Endorsement, Score},
};

use super::{
    Demo,
    cluster::VALIDATORS,
    fixtures::{Golden, HELD_OUT},
    report,
};
use crate::{
    commands::{
        pool,
        publish::absolute,
        validate::{validate_file, verdict},
    },
    exit::{Exit, Failure, Outcome},
    output::{Table, plural, ppm},
    progress::Progress,
    session::QUICK,
};

/// The step.
pub(crate) async fn run(demo: &mut Demo) -> Outcome {
    demo.heading("3. Three validators grade it, each on held-out samples of its own");
    let mut files = Vec::new();
    for (name, text) in HELD_OUT {
        files.push(demo.cluster.file(name, text.as_bytes())?);
    }
    let progress = demo.progress("validating on three nodes side by side");
    let jobs = VALIDATORS.zip(&files).map(|(index, file)| {
        let demo = &*demo;
        async move {
            let session = demo.session(index)?;
            let samples = LocalData { path: absolute(file)?, ..LocalData::default() };
            let call = ValidateCall { name: demo.model_ref(), samples, serve: true, report: None, load: false };
            let done = validate_file(session, &call, &mut Progress::silent()).await.map(|(done, _)| done);
            done.map_err(|e| demo.cluster.node(index).map_or_else(|own| own, |node| node.with_log(e)))
        }
    });
    let reports = futures::future::try_join_all(jobs).await?;
    drop(progress);
    let reports = reports.into_iter().map(Graded::of).collect::<Outcome<Vec<_>>>()?;
    table(demo, &reports)?;
    block(demo, &reports).await
}

/// A validation that ended on the ledger, as all of the demo's do.
struct Graded {
    validator: PublicKey,
    endorsement: Endorsement,
    score: Score,
}

impl Graded {
    fn of(report: ValidateReport) -> Outcome<Self> {
        let ValidateReport { validator, endorsement, score, withheld, .. } = report;
        let (Some(endorsement), Some(score)) = (endorsement, score) else {
            return Err(Failure::new(Exit::Model, format!("It was not endorsed: {}.", withheld.unwrap_or_default())));
        };
        Ok(Self { validator, endorsement, score })
    }
}

fn table(demo: &mut Demo, reports: &[Graded]) -> Outcome {
    let golden = Golden::read()?;
    let mut table = Table::new(&[
        "validator",
        ">samples",
        ">right",
        ">precision",
        ">recall",
        ">F1",
        "verdict",
        "scikit-learn counts",
    ]);
    for (report, (file, _)) in reports.iter().zip(HELD_OUT) {
        let e = &report.endorsement;
        let equals_golden = golden.equals(file, &e.counts);
        table.row([
            report.validator.short(),
            e.counts.samples.to_string(),
            e.counts.correct.to_string(),
            ppm(e.precision_ppm),
            ppm(e.recall_ppm),
            ppm(e.f1_ppm),
            verdict(e.verdict).into(),
            if equals_golden { "the same" } else { "DIFFERENT" }.into(),
        ]);
        demo.report.endorsements.push(report::Endorsement {
            validator: report.validator.to_string(),
            samples: e.counts.samples,
            precision: f64::from(e.precision_ppm) / 1e6,
            recall: f64::from(e.recall_ppm) / 1e6,
            f1: f64::from(e.f1_ppm) / 1e6,
            verdict: verdict(e.verdict),
            equals_golden,
        });
    }
    demo.say(&table.render(3));
    Ok(())
}

/// Fetches the block of the last endorsement and checks its certificate here.
async fn block(demo: &mut Demo, reports: &[Graded]) -> Outcome {
    let last = reports.iter().max_by_key(|r| (r.score.height, r.score.datasets));
    let last = last.ok_or_else(|| Failure::new(Exit::Internal, "no validator reported"))?;
    let (height, score) = (last.endorsement.height, last.score.score_ppm);
    let session = demo.session(0)?;
    let sealed = session.call::<Blocks>(&BlocksCall { from: height, max: 1 }, QUICK).await?;
    let signers = pool::show(session).await?.signers.current;
    let fail = |why: String| Failure::new(Exit::Unverified, format!("block {height}: {why}"));
    let block = zero2ai_proto::block::Block::read(&sealed.block).map_err(|e| fail(e.to_string()))?;
    let header: Header = decode(&block.header, SIGNED_BYTES).map_err(|e| fail(e.to_string()))?;
    if header.height != height || sealed.certificate.block != block.id() {
        return Err(fail("the certificate is for another block".into()));
    }
    sealed.certificate.verify(&session.pool, &signers).map_err(|e| fail(e.to_string()))?;
    let (signatures, validators) = (sealed.certificate.signatures.len(), signers.as_slice().len());
    let names: Vec<String> =
        sealed.certificate.signatures.iter().map(|(key, _): &(PublicKey, _)| key.short()).collect();
    demo.say(&format!(
        "   score {}; the last endorsement is final in block {height}, signed by {} of {}: {}",
        score.map_or_else(|| "none yet".into(), ppm),
        signatures,
        plural(validators as u64, "signer"),
        names.join(", ")
    ));
    demo.report.score = score.map(|s| f64::from(s) / 1e6);
    demo.report.block = Some(report::Block { height, signatures, validators });
    Ok(())
}
