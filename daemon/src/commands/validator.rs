//! `validator ...`: grading as a job that goes on.
//!
//! | module | owns |
//! |---|---|
//! | [`run`] | takes jobs by itself: new versions, and old ones again |
//! | [`folder`] | which data is for which model |

mod folder;
mod run;

pub(crate) use run::models;

use std::path::Path;

use crate::{cli::ValidatorCommand, exit::Outcome, output::Output};

/// The command.
pub(crate) async fn validator(home: &Path, command: ValidatorCommand, out: Output) -> Outcome {
    match command {
        ValidatorCommand::Run(args) => run::run(home, &args, out).await,
    }
}
