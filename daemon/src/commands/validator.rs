//! `validator ...`: grading as a job that goes on, what a node stakes on it, and what became of others' stakes.
//!
//! | module | owns |
//! |---|---|
//! | [`run`] | takes jobs by itself: new versions, and old ones again |
//! | [`folder`] | which data is for which model |
//! | [`stake`] | stakes, rounds, convictions, records, votes |

mod folder;
mod run;
pub(crate) mod stake;

pub(crate) use run::models;

use std::path::Path;

use crate::{cli::ValidatorCommand, exit::Outcome, output::Output};

/// The command.
pub(crate) async fn validator(home: &Path, command: ValidatorCommand, out: Output) -> Outcome {
    match command {
        ValidatorCommand::Run(args) => run::run(home, &args, out).await,
        ValidatorCommand::Stake { amount } => stake::stake(home, amount, out).await,
        ValidatorCommand::Unstake { amount } => stake::unstake(home, amount, out).await,
        ValidatorCommand::Slashes => stake::slashes(home, out).await,
        ValidatorCommand::Rounds { name } => stake::rounds(home, name, out).await,
        ValidatorCommand::Vote { node } => stake::vote(home, node, out).await,
        ValidatorCommand::Graders { name, graders } => stake::graders(home, name, &graders, out).await,
        ValidatorCommand::Open { name } => stake::open(home, name, out).await,
    }
}
