//! `validator ...`: what this node stakes, and what became of others' stakes.

pub(crate) mod stake;

use std::path::Path;

use crate::{cli::ValidatorCommand, exit::Outcome, output::Output};

/// The command.
pub(crate) async fn validator(home: &Path, command: ValidatorCommand, out: Output) -> Outcome {
    match command {
        ValidatorCommand::Stake { amount } => stake::stake(home, amount, out).await,
        ValidatorCommand::Unstake { amount } => stake::unstake(home, amount, out).await,
        ValidatorCommand::Slashes => stake::slashes(home, out).await,
        ValidatorCommand::Rounds { name } => stake::rounds(home, name, out).await,
        ValidatorCommand::Vote { node } => stake::vote(home, node, out).await,
        ValidatorCommand::Graders { name, graders } => stake::graders(home, name, &graders, out).await,
        ValidatorCommand::Open { name } => stake::open(home, name, out).await,
    }
}
