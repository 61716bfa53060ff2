//! `validator ...`: grading as a job that goes on, what a node stakes on it, and what became of others' stakes.
//!
//! | module | owns |
//! |---|---|
//! | [`run`] | takes jobs by itself: new versions, and old ones again |
//! | [`folder`] | which data is for which model |
//! | [`stake`] | stakes, rounds, convictions, records, votes |
//! | [`rewards`] | what an epoch's work earned, and the pot |
//! | [`disputes`] | leaves that were opened, and disputes over them |

mod disputes;
mod folder;
pub(crate) mod rewards;
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
        ValidatorCommand::Rewards => rewards::rewards(home, out).await,
        ValidatorCommand::Leaves { name } => disputes::leaves(home, name, out).await,
        ValidatorCommand::Disputes => disputes::disputes(home, out).await,
        ValidatorCommand::Dispute { leaf } => disputes::dispute(home, leaf, out).await,
        ValidatorCommand::Salt { leaf } => disputes::salt(home, &leaf, out),
        ValidatorCommand::Check(args) => disputes::check(home, args, out).await,
        ValidatorCommand::Ballot { leaf, finding } => disputes::ballot(home, leaf, finding, out).await,
        ValidatorCommand::Appeal { leaf } => disputes::appeal(home, leaf, out).await,
    }
}
