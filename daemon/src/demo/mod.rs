//! The whole job before the user's eyes: a pool of several daemons on this machine, each a process of its own, publishes,
//! grades, names, serves and audits a model; strangers are refused, a node is killed, the chain is halted.
//!
//! | module | owns |
//! |---|---|
//! | [`daemon`], [`cluster`] | the child processes and their folder |
//! | [`wait`] | bounded waiting |
//! | [`fixtures`] | the model and its samples, embedded |
//! | [`step_pool`], [`step_publish`], [`step_validate`], [`step_predict`], [`step_failover`], [`step_audit`], [`step_llm`] | the steps |
//! | [`report`] | the figures |

mod cluster;
mod daemon;
mod fixtures;
mod report;
mod step_audit;
mod step_failover;
mod step_llm;
mod step_pool;
mod step_predict;
mod step_publish;
mod step_validate;
mod wait;

use std::{path::PathBuf, time::Instant};

use zero2ai_proto::{ModelName, ModelRef, PoolId, name::Selector};

use self::{cluster::Cluster, report::Report};
use crate::{
    cli::DemoArgs,
    commands::write_file,
    exit::{Exit, Failure, Outcome},
    output::{Output, print_line},
    progress::Progress,
    session::Session,
    signals::Signals,
};

/// Name of the model that is published.
const MODEL_NAME: &str = "lab/digits";

/// What the steps share.
struct Demo {
    out: Output,
    cluster: Cluster,
    report: Report,
    model: ModelName,
    export: Option<PathBuf>,
}

impl Demo {
    /// Prints a line of the story, unless JSON was asked for.
    fn say(&self, line: &str) {
        if !self.out.json {
            print_line(line.trim_end());
        }
    }

    /// Prints a step's heading.
    fn heading(&self, text: &str) {
        self.say(&format!("\n{text}"));
    }

    /// Shows that something is going on.
    fn progress(&self, what: &str) -> Progress {
        Progress::start(self.out, what)
    }

    /// The line to one node.
    fn session(&self, index: usize) -> Outcome<&Session> {
        self.cluster.session(index)
    }

    /// The model's newest version.
    fn model_ref(&self) -> ModelRef {
        ModelRef { name: self.model.clone(), selector: Selector::Latest }
    }

    /// The pool.
    fn pool(&self) -> Outcome<PoolId> {
        Ok(self.session(0)?.pool)
    }
}

/// The command.
pub(crate) async fn demo(args: DemoArgs, out: Output) -> Outcome {
    let mut signals = Signals::catch()?;
    tokio::select! {
        done = run(args, out) => done,
        which = signals.next() => {
            Err(Failure::new(Exit::Interrupted, format!("Stopped by {which}; the demo's nodes are ended with it.")))
        }
    }
}

async fn run(args: DemoArgs, out: Output) -> Outcome {
    let start = Instant::now();
    let model = MODEL_NAME.parse().map_err(|e| Failure::new(Exit::Internal, format!("{e}")))?;
    let cluster = Cluster::new(usize::from(args.nodes), args.homes.as_deref(), args.keep)?;
    let report = Report { nodes: args.nodes, ..Report::default() };
    let mut demo = Demo { out, cluster, report, model, export: args.export };
    demo.say(&format!("zero2ai demo: {} nodes, one process each, under {}", args.nodes, demo.cluster.root.display()));

    let done = steps(&mut demo, args.llm).await;
    demo.report.seconds = (start.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    if let Err(failure) = done {
        demo.cluster.leave();
        let root = demo.cluster.root.display().to_string();
        return Err(failure.during("The demo failed").after(&format!("The homes and logs are left in {root}.")));
    }
    if let Some(path) = &args.report {
        let text = serde_json::to_string_pretty(&demo.report)
            .map_err(|e| Failure::new(Exit::Internal, format!("The report cannot be written as JSON: {e}.")))?;
        write_file("write the report to", path, format!("{text}\n").as_bytes())?;
    }
    let json = serde_json::to_value(&demo.report).unwrap_or_default();
    out.result(&json, || format!("\nSummary\n{}", demo.report.summary()));
    if args.keep {
        demo.say(&how_to_use(&demo)?);
    }
    demo.cluster.release(args.keep);
    Ok(())
}

async fn steps(demo: &mut Demo, llm: bool) -> Outcome {
    step_pool::run(demo).await.map_err(|e| e.during("step 1, the pool"))?;
    step_publish::run(demo).await.map_err(|e| e.during("step 2, publishing"))?;
    step_validate::run(demo).await.map_err(|e| e.during("step 3, validation"))?;
    step_predict::run(demo).await.map_err(|e| e.during("step 4, predicting"))?;
    step_failover::run(demo).await.map_err(|e| e.during("step 5, failures"))?;
    step_audit::run(demo).await.map_err(|e| e.during("step 6, the audit"))?;
    if llm {
        step_llm::run(demo).await.map_err(|e| e.during("step 7, the language model"))?;
    }
    demo.cluster.alive()
}

/// What to type next, with the nodes left running.
fn how_to_use(demo: &Demo) -> Outcome<String> {
    let program = std::env::args().next().unwrap_or_else(|| "zero2ai".into());
    let mut text = String::from("\nThe nodes go on running. Try:\n");
    let user = demo.cluster.node(cluster::USER)?.home.display().to_string();
    for rest in ["status", "pool show", "resolve lab/digits", "audit lab/digits"] {
        text += &format!("  {program} {rest} --home {user}\n");
    }
    text += "Stop them with:\n";
    for node in demo.cluster.nodes.iter().filter(|n| n.is_up()) {
        text += &format!("  {program} stop --home {}\n", node.home.display());
    }
    Ok(text)
}
