//! The unit's text. Hardened as far as a node allows that runs models in workers with walls of their own: it needs its home,
//! the network, and what says which processors and memory there are.

use std::path::Path;

use crate::{
    cli::{HttpTlsArgs, InstallArgs},
    exit::{Exit, Failure, Outcome, file_error},
};

/// Exit codes that another start would only repeat: usage, config, in use, invite, outdated.
const FINAL: &str = "2 3 9 10 19";

/// For any manager. Left out on purpose: `MemoryDenyWriteExecute` and `PrivateDevices` (ONNX Runtime and GPUs would be out of
/// reach), `ProcSubset` (memory is read in /proc), `SystemCallFilter` as a list of what is allowed (workers install their own,
/// tighter one, and newer kernels' calls would break old units).
const ALWAYS: &str = "\
NoNewPrivileges=yes
UMask=0077
LimitNOFILE=65536
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=~@mount @swap @reboot @raw-io @module @obsolete @cpu-emulation @clock
SystemCallErrorNumber=EPERM
";

/// For the machine's manager, which can take a service's view of the machine away.
const MACHINE: &str = "\
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=tmpfs
PrivateTmp=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RemoveIPC=yes
";

/// Whose service it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    /// The machine's, run as this user.
    Machine {
        /// The user's number.
        uid: u32,
        /// The group's.
        gid: u32,
    },
    /// A user's own.
    User,
}

/// What the unit is written from.
pub(super) struct Unit<'a> {
    pub(super) program: &'a Path,
    pub(super) home: &'a Path,
    pub(super) args: &'a InstallArgs,
    pub(super) owner: Owner,
}

impl Unit<'_> {
    /// The unit.
    pub(super) fn text(&self) -> Outcome<String> {
        let (program, home) = (word(self.program)?, word(self.home)?);
        let listens =
            [("--listen", self.args.listen), ("--swarm-listen", self.args.swarm_listen), ("--http", self.args.http)];
        let flags: String = listens.iter().filter_map(|(flag, at)| Some(format!(" {flag} {}", (*at)?))).collect();
        let (tls, files) = tls(&self.args.tls)?;
        let flags = flags + &tls;
        let (walls, target) = match self.owner {
            Owner::User => (String::new(), "default.target"),
            // Neither other homes nor anything else can be written or, below /home and /root, seen.
            Owner::Machine { uid, gid } => (
                format!("User={uid}\nGroup={gid}\n{MACHINE}BindReadOnlyPaths={program}{files}\nBindPaths={home}\n"),
                "multi-user.target",
            ),
        };
        Ok(format!(
            "# Written by 'zero2ai service install'; run it again to change options.\n\
             [Unit]\n\
             Description=Zero2AI node of {}\n\
             Wants=network-online.target\n\
             After=network-online.target\n\
             \n\
             [Service]\n\
             Type=exec\n\
             ExecStart={program} --home {home} --log-format json up{flags}\n\
             Restart=on-failure\n\
             RestartSec=5\n\
             RestartPreventExitStatus={FINAL}\n\
             KillSignal=SIGTERM\n\
             TimeoutStopSec=90\n\
             {ALWAYS}{walls}\
             \n\
             [Install]\n\
             WantedBy={target}\n",
            plain(self.home)?.replace('%', "%%"),
        ))
    }
}

/// The flags of TLS, and the files it needs, a blank before each. The service starts elsewhere: paths are told whole.
fn tls(args: &HttpTlsArgs) -> Outcome<(String, String)> {
    let (mut flags, mut files) = (String::new(), String::new());
    for (flag, file) in [("--http-tls-cert", &args.http_tls_cert), ("--http-tls-key", &args.http_tls_key)] {
        let Some(file) = file else { continue };
        let whole = std::path::absolute(file).map_err(|e| file_error("find", file, &e))?;
        let whole = word(&whole)?;
        flags += &format!(" {flag} {whole}");
        files += &format!(" {whole}");
    }
    if args.http_tls.is_some() {
        flags += " --http-tls self-signed";
    }
    for name in &args.http_tls_name {
        flags += &format!(" --http-tls-name {}", word(Path::new(name))?);
    }
    Ok((flags, files))
}

/// A path as systemd can carry it: text in one line.
fn plain(path: &Path) -> Outcome<&str> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    text.ok_or_else(|| {
        let said = format!("A unit cannot carry the path {path:?}: it must be UTF-8 text in one line.");
        Failure::new(Exit::Config, said)
    })
}

/// A path as one word of a unit: quoted, with what systemd would expand doubled.
fn word(path: &Path) -> Outcome<String> {
    let text = plain(path)?.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    let simple = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    Ok(if simple { text } else { format!("\"{text}\"") })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cli::{HttpTls, UnitArgs};

    fn unit(home: &str, owner: Owner) -> Outcome<String> {
        unit_with(home, owner, HttpTlsArgs::default())
    }

    fn unit_with(home: &str, owner: Owner, tls: HttpTlsArgs) -> Outcome<String> {
        let http = Some("127.0.0.1:8700".parse().unwrap());
        let unit = UnitArgs { name: "zero2ai".into() };
        let args = InstallArgs { unit, listen: None, swarm_listen: None, http, tls, print: true };
        Unit { program: Path::new("/usr/bin/zero2ai"), home: Path::new(home), args: &args, owner }.text()
    }

    #[test]
    fn a_machine_s_unit_runs_as_the_owner_behind_walls() {
        let text = unit("/var/lib/zero2ai", Owner::Machine { uid: 7, gid: 8 }).unwrap();
        for line in [
            "ExecStart=/usr/bin/zero2ai --home /var/lib/zero2ai --log-format json up --http 127.0.0.1:8700\n",
            "User=7\n",
            "Group=8\n",
            "ProtectSystem=strict\n",
            "BindPaths=/var/lib/zero2ai\n",
            "WantedBy=multi-user.target\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let own = unit("/home/me/.zero2ai", Owner::User).unwrap();
        assert!(!own.contains("User=") && own.contains("WantedBy=default.target"));
    }

    #[test]
    fn tls_goes_into_the_unit_with_whole_paths() {
        let [http_tls_cert, http_tls_key] = ["/etc/z/c.pem", "k 1.pem"].map(|path| Some(path.into()));
        let given = HttpTlsArgs { http_tls_cert, http_tls_key, ..HttpTlsArgs::default() };
        let text = unit_with("/srv/z", Owner::User, given.clone()).unwrap();
        assert!(text.contains(" --http-tls-cert /etc/z/c.pem --http-tls-key \"/"), "{text}");
        assert!(text.contains("/k 1.pem\"\n"), "{text}");
        let machine = Owner::Machine { uid: 7, gid: 8 };
        let text = unit_with("/srv/z", machine, given).unwrap();
        assert!(text.contains("BindReadOnlyPaths=/usr/bin/zero2ai /etc/z/c.pem \"/"), "{text}");
        let (http_tls, http_tls_name) = (Some(HttpTls::SelfSigned), vec!["gpu7".to_owned()]);
        let own = HttpTlsArgs { http_tls, http_tls_name, ..HttpTlsArgs::default() };
        let text = unit_with("/srv/z", Owner::User, own).unwrap();
        assert!(text.contains(" up --http 127.0.0.1:8700 --http-tls self-signed --http-tls-name gpu7\n"), "{text}");
    }

    #[test]
    fn a_path_is_one_word_whatever_is_in_it() {
        let text = unit("/srv/my $HOME 100%", Owner::User).unwrap();
        assert!(text.contains("--home \"/srv/my $$HOME 100%%\" "), "{text}");
        assert!(unit("/srv/a\nExecStart=/bin/sh", Owner::User).is_err());
    }
}
