//! What each command does. Those that need a node ask it over peer RPC, as its own identity ([`crate::session`]); each
//! has a function that does the job and returns typed results (the demo calls these too) and one that prints them.

pub(crate) mod account;
pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod embed;
pub(crate) mod fetch;
pub(crate) mod grant;
pub(crate) mod hardware;
pub(crate) mod inspect;
pub(crate) mod keep;
pub(crate) mod ledger;
pub(crate) mod models;
pub(crate) mod names;
pub(crate) mod outcomes;
pub(crate) mod pool;
pub(crate) mod predict;
pub(crate) mod publish;
pub(crate) mod resolve;
pub(crate) mod run;
pub(crate) mod score;
pub(crate) mod service;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod up;
pub(crate) mod validate;
pub(crate) mod validator;

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use zero2ai_proto::{calls::Empty, local};

use crate::{
    cli::{AuditCommand, Cli, Command},
    demo,
    exit::{Exit, Failure, Outcome, file_error},
    output::Output,
    session::{QUICK, Session},
};

/// Carries out one command line.
pub(crate) async fn run_command(cli: Cli) -> Outcome {
    let out = Output { json: cli.global.json };
    let home = || home_folder(cli.global.home.as_deref());
    match cli.command {
        Command::Up(args) => up::up(&home()?, &args, out).await,
        Command::Pool(command) => pool::pool(&home()?, command, out).await,
        Command::Publish(args) => publish::publish(&home()?, args, out).await,
        Command::Grant(args) => grant::grant(&Session::open(&home()?).await?, args, out).await,
        Command::Revoke(args) => grant::revoke(&Session::open(&home()?).await?, args, out).await,
        Command::Grants(args) => grant::grants(&Session::open(&home()?).await?, args, out).await,
        Command::Fetch(args) => fetch::fetch(&Session::open(&home()?).await?, args, out).await,
        Command::Validate(args) => validate::validate(&Session::open(&home()?).await?, args, out).await,
        Command::Validator(command) => validator::validator(&home()?, command, out).await,
        Command::Reputation(args) => validator::stake::reputation(&home()?, args.node, out).await,
        Command::Elections => validator::stake::elections(&home()?, out).await,
        Command::Resolve(args) => resolve::resolve(&Session::open(&home()?).await?, args, out).await,
        Command::Score(args) => score::score(&home()?, args, out).await,
        Command::Names(command) => names::names(&Session::open(&home()?).await?, command, out).await,
        Command::Predict(args) => predict::predict(&home()?, args, out).await,
        Command::Embed(args) => embed::embed(&home()?, args, out).await,
        Command::Run(args) => run::run(&Session::open(&home()?).await?, args, out).await,
        Command::Models(command) => models::models(&home()?, command, out).await,
        Command::Store(command) => store::store(&home()?, command, out).await,
        Command::Ledger(command) => ledger::ledger(&home()?, command, out).await,
        Command::Status(args) if args.peers => top::peers(&Session::open(&home()?).await?, out).await,
        Command::Status(_) => status::status(&Session::open(&home()?).await?, out).await,
        Command::Top(args) => top::top(&Session::open(&home()?).await?, &args, out).await,
        Command::Doctor(args) => doctor::doctor(&home()?, args.patient, out).await,
        Command::Audit(args) => match (args.command, args.name) {
            (Some(AuditCommand::Verify { file, genesis, shown }), _) => {
                audit::verify_files(&file, &genesis, &shown, out)
            }
            (Some(AuditCommand::ReRun { file }), _) => audit::rerun::rerun(&home()?, &file, out).await,
            (None, Some(name)) => {
                audit::audit(&Session::open(&home()?).await?, name, args.export.as_deref(), &args.shown, out).await
            }
            (None, None) => Err(Failure::new(Exit::Usage, "Say which model: zero2ai audit publisher/model.")),
        },
        Command::Outcome(args) => outcomes::send(&home()?, &args, out).await,
        Command::Outcomes(args) => outcomes::show(&home()?, &args, out).await,
        Command::Stop => stop(&home()?, out).await,
        Command::Account(command) => account::account(home, command, out).await,
        Command::Token(command) => token::token(&home()?, command, out),
        Command::Service(command) => service::service(&home()?, &command, out),
        Command::Completions(args) => {
            completions::completions(&args);
            Ok(())
        }
        Command::Hardware => hardware::hardware(out),
        Command::Inspect(args) => inspect::inspect(&home()?, args, out).await,
        Command::Demo(args) => demo::demo(args, out).await,
        Command::Worker => Err(Failure::new(Exit::Usage, "'worker' is started by a node, not by hand.")),
    }
}

/// The home folder: `--home`, `ZERO2AI_HOME`, or `.zero2ai` in the user's own.
fn home_folder(given: Option<&Path>) -> Outcome<PathBuf> {
    if let Some(home) = given {
        return std::path::absolute(home).map_err(|e| file_error("use the home folder", home, &e));
    }
    let user = std::env::var_os("HOME").filter(|h| !h.is_empty()).ok_or_else(|| {
        Failure::new(
            Exit::Config,
            "HOME is not set, so there is no default folder. Say where: --home DIR, or ZERO2AI_HOME=DIR.",
        )
    })?;
    Ok(PathBuf::from(user).join(".zero2ai"))
}

/// `stop`: asks the node to stop in order.
async fn stop(home: &Path, out: Output) -> Outcome {
    let session = Session::open(home).await?;
    session.call::<local::Stop>(&Empty {}, QUICK).await?;
    out.result(&serde_json::json!({ "stopping": session.node.to_string() }), || {
        format!("Node {} stops: it finishes the calls it is answering first.", session.node.short())
    });
    Ok(())
}

/// Reads a whole small file, refusing one over `max` bytes before it is read.
pub(crate) fn read_file(what: &str, path: &Path, max: u64) -> Outcome<Vec<u8>> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|e| file_error(what, path, &e))?;
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| file_error(what, path, &e))?;
    if bytes.len() as u64 > max {
        return Err(Failure::new(
            Exit::Invalid,
            format!("Cannot {what} {}: it is longer than the {max} bytes allowed here.", path.display()),
        ));
    }
    Ok(bytes)
}

/// Writes a whole file so that no half of it is ever seen: a neighbour first, then a rename.
pub(crate) fn write_file(what: &str, path: &Path, bytes: &[u8]) -> Outcome {
    write_with(what, path, 0o666, |file| file.write_all(bytes))
}

/// The same for what only this user is to read.
pub(crate) fn write_private(what: &str, path: &Path, bytes: &[u8]) -> Outcome {
    write_with(what, path, 0o600, |file| file.write_all(bytes))
}

/// The same for what is too much to be held at once: `fill` writes it piece by piece.
pub(crate) fn fill_private(
    what: &str,
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Outcome {
    write_with(what, path, 0o600, fill)
}

/// `mode` is as the umask leaves it.
fn write_with(
    what: &str,
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Outcome {
    use std::os::unix::fs::OpenOptionsExt as _;
    let fail = |e: io::Error| file_error(what, path, &e);
    let mut name = path.file_name().map(std::ffi::OsStr::to_owned).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("Cannot {what} '{}': that is no file name.", path.display()))
    })?;
    name.push(".part");
    let part = path.with_file_name(name);
    // One left by a run that was cut off may have another mode.
    let _ = std::fs::remove_file(&part);
    let written = File::options().write(true).create_new(true).mode(mode).open(&part).and_then(|file| {
        let mut file = BufWriter::new(file);
        fill(&mut file)?;
        file.into_inner()?.sync_all()?;
        std::fs::rename(&part, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written.map_err(fail)
}
