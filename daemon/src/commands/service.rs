//! `service`: a node as a systemd service. The unit is written for one home and its options; systemd does the rest.

mod unit;

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use super::write_file;
use crate::{
    cli::{InstallArgs, ServiceCommand},
    exit::{Exit, Failure, Outcome, file_error},
    output::{Output, facts, print_line},
};
use unit::{Owner, Unit};

/// There if systemd is the init of this machine (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// The command.
pub(crate) fn service(home: &Path, command: &ServiceCommand, out: Output) -> Outcome {
    match command {
        ServiceCommand::Install(args) => install(home, args, out),
        ServiceCommand::Uninstall(args) => uninstall(&args.name, out),
        ServiceCommand::Status(args) => status(&args.name, out),
    }
}

fn install(home: &Path, args: &InstallArgs, out: Output) -> Outcome {
    let program = std::env::current_exe()
        .map_err(|e| Failure::new(Exit::Internal, format!("This program cannot find its own file: {e}.")))?;
    let owner = if is_root() { owner_of(home)? } else { Owner::User };
    let text = Unit { program: &program, home, args, owner }.text()?;
    if args.print {
        print_line(text.trim_end());
        return Ok(());
    }
    needs_systemd()?;
    if !home.join("node.key").exists() {
        return Err(Failure::new(
            Exit::Config,
            format!(
                "There is no node in {}: run 'zero2ai pool create' or 'zero2ai up --join-file FILE' with this --home once, so that \
                 the service has a pool to serve.",
                home.display()
            ),
        ));
    }
    let (name, path) = (file_name(&args.unit.name), path_of(&args.unit.name)?);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| file_error("make the folder", folder, &e))?;
    }
    write_file("write the unit", &path, text.as_bytes())?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", &name])?;
    // Also where an older unit of this name runs already: its options may have changed.
    systemctl(&["restart", &name])?;
    out.result(&json!({ "unit": name, "file": path.display().to_string() }), || {
        facts(&[
            ("unit", name.clone()),
            ("file", path.display().to_string()),
            ("log", format!("journalctl -u {name} -f")),
        ])
    });
    Ok(())
}

fn uninstall(name: &str, out: Output) -> Outcome {
    needs_systemd()?;
    let (unit, path) = (file_name(name), path_of(name)?);
    if !path.exists() {
        let said = format!("There is no unit {unit} of yours ({}): nothing to uninstall.", path.display());
        return Err(Failure::new(Exit::NotFound, said));
    }
    systemctl(&["disable", "--now", &unit])?;
    fs::remove_file(&path).map_err(|e| file_error("delete the unit", &path, &e))?;
    systemctl(&["daemon-reload"])?;
    out.result(&json!({ "unit": unit, "removed": true }), || {
        format!("{unit} is stopped and gone; the home folder stays.")
    });
    Ok(())
}

fn status(name: &str, out: Output) -> Outcome {
    needs_systemd()?;
    let (unit, path) = (file_name(name), path_of(name)?);
    let said = systemctl(&["show", &unit, "--property=ActiveState,SubState,MainPID,UnitFileState"])?;
    let value = |key: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.filter(|v| !v.is_empty()).unwrap_or("unknown").to_owned()
    };
    let (active, sub) = (value("ActiveState"), value("SubState"));
    let json = json!({
        "unit": unit, "installed": path.exists(), "active": active, "sub": sub, "enabled": value("UnitFileState"),
        "pid": value("MainPID").parse::<u32>().unwrap_or(0),
    });
    out.result(&json, || {
        let file = if path.exists() { path.display().to_string() } else { "not installed".to_owned() };
        facts(&[
            ("unit", unit),
            ("file", file),
            ("state", format!("{active} ({sub})")),
            ("at boot", value("UnitFileState")),
        ])
    });
    Ok(())
}

fn file_name(name: &str) -> String {
    format!("{name}.service")
}

/// Where units are: the machine's for root, else the user's own.
fn path_of(name: &str) -> Outcome<PathBuf> {
    if is_root() {
        return Ok(Path::new("/etc/systemd/system").join(file_name(name)));
    }
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    let base =
        base.ok_or_else(|| Failure::new(Exit::Config, "HOME is not set, so there is no place for your units."))?;
    Ok(base.join("systemd/user").join(file_name(name)))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Who is to run the machine's service: whoever owns the home, since its keys are for that user alone.
fn owner_of(home: &Path) -> Outcome<Owner> {
    match fs::metadata(home) {
        Ok(found) => Ok(Owner::Machine { uid: found.uid(), gid: found.gid() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Owner::Machine { uid: 0, gid: 0 }),
        Err(e) => Err(file_error("use the home folder", home, &e)),
    }
}

fn needs_systemd() -> Outcome {
    if Path::new(BOOTED).is_dir() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Config,
        format!(
            "systemd does not run this machine ({BOOTED} is not there), so no service can be installed. Start 'zero2ai up' by what \
             does, or see the unit with 'zero2ai service install --print'."
        ),
    ))
}

/// Runs systemctl, as root or for the user's own manager, and gives what it says.
fn systemctl(arguments: &[&str]) -> Outcome<String> {
    let mut command = Command::new("systemctl");
    if !is_root() {
        command.arg("--user");
    }
    let done = command.args(arguments).output();
    let fail = |why: &dyn std::fmt::Display| {
        Failure::new(Exit::Config, format!("'systemctl {}' failed: {why}.", arguments.join(" ")))
    };
    let done = done.map_err(|e| fail(&e))?;
    if !done.status.success() {
        return Err(fail(&String::from_utf8_lossy(&done.stderr).trim().trim_end_matches('.')));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
