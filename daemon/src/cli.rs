//! The command line's shape: what can be typed. What it does is in [`crate::commands`].

mod account;
mod audit;
mod doctor;
mod grant;
mod ledger;
mod media;
mod models;
mod names;
mod outcomes;
mod score;
mod service;
mod status;
mod store;
mod token;
mod validator;

pub(crate) use account::AccountCommand;
pub(crate) use audit::{AuditArgs, AuditCommand, Shown};
pub(crate) use doctor::{DoctorArgs, Patient};
pub(crate) use grant::{GrantArgs, GrantsArgs, RevokeArgs};
pub(crate) use ledger::LedgerCommand;
pub(crate) use models::ModelsCommand;
pub(crate) use names::NamesCommand;
pub(crate) use outcomes::{OutcomeArgs, OutcomesArgs};
pub(crate) use score::{ScoreArgs, ScoreCommand, ScorePart};
#[cfg(test)]
pub(crate) use service::UnitArgs;
pub(crate) use service::{CompletionsArgs, InstallArgs, ServiceCommand};
pub(crate) use status::{StatusArgs, TopArgs};
pub(crate) use store::{StoreCommand, VersionName};
pub(crate) use token::{Budget, TokenCommand};
pub(crate) use validator::{
    CheckArgs, Columns, Finding, GradingArgs, ReputationArgs, RunArgs as ValidatorRunArgs, ValidateArgs,
    ValidatorCommand,
};

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use zero2ai_proto::{
    ModelName, ModelRef, NodeId,
    manifest::Domain,
    prepare::Preparation,
    state::{Rights, Signer},
};

/// A pool of machines that publishes, grades, names, serves and audits AI models. Every node runs this one program.
#[derive(Debug, Parser)]
#[command(name = "zero2ai", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Folder of the node's keys, store and chain [default: ~/.zero2ai]
    #[arg(long, global = true, env = "ZERO2AI_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Print results as JSON on standard output, and errors as JSON on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How log lines look on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Log more: -v debug, -vv trace (RUST_LOG overrides it)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node until Ctrl-C or SIGTERM; without a pool it makes its own, with itself as the one signer
    #[command(after_help = "Examples:\n  zero2ai up\n  zero2ai up --http 127.0.0.1:8700\n  \
        zero2ai up --http 192.0.2.7:8700 --http-tls self-signed\n  zero2ai up --model-memory 8GiB\n  zero2ai up --home ~/lab --listen 192.0.2.7:7411\n  \
        zero2ai up --home ~/b --join z2a1-...\n  zero2ai up --home ~/b --join-file invite.txt")]
    Up(UpArgs),
    /// Make, show and govern the pool
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Cut, seal, store, replicate and publish a model (a file or a folder) as the next version of a name
    #[command(after_help = "Examples:\n  zero2ai publish digits.onnx --name lab/digits\n  \
        zero2ai publish chat.gguf --name lab/chat --replicas 3 --accept 0.95 --reject 0.8\n  \
        zero2ai publish secret.gguf --name lab/secret --domain private && zero2ai grant lab/secret NODE-KEY\n  \
        zero2ai publish cats.onnx --name lab/cats --samples cats.json --image 224x224,cover,mean=0.485/0.456/0.406,\
        std=0.229/0.224/0.225\n  \
        zero2ai publish ./SmolLM2-135M --name lab/smol            # config, tokenizer, shards\n  \
        zero2ai publish ./SmolLM2-tuned --name lab/smol --base lab/smol@1\n  \
        zero2ai publish hf:ORG/REPO@v1.0 --name lab/m --only '*.safetensors' --only '*.json'\n\n\
        From a hub this command downloads, not the node: into the home folder, at one commit, going on where an earlier try \
        broke off; size and hash of every file are checked, and the files go once they are published. HF_TOKEN is sent to \
        the hub if it is set.         An ONNX or GGUF file is run before it is published: its bytes go into memory once, and the worker that ran them \
        serves them. Other files are read piece by piece. What this version cannot run (safetensors, ONNX with tensors in \
        other files) is stored, named, replicated and fetched; the answer says that it is not served. Who is granted a \
        version with differences can open the older chunks they start from.")]
    Publish(PublishArgs),
    /// Let a member open a private model of yours: its node may then fetch the key, run and serve it
    #[command(after_help = "Example:\n  zero2ai grant lab/chat NODE-KEY")]
    Grant(GrantArgs),
    /// Take a grant back; with --reseal publish the private versions again under a new secret
    #[command(after_help = grant::REVOKE_HELP)]
    Revoke(RevokeArgs),
    /// Who was ever granted a private model, and whether the grant holds
    #[command(after_help = "Example:\n  zero2ai grants lab/chat --json")]
    Grants(GrantsArgs),
    /// Fetch a version into this node's store; with --serve also load and announce it
    #[command(after_help = "Examples:\n  zero2ai fetch lab/digits\n  zero2ai fetch lab/chat@2 --serve\n  \
        zero2ai fetch lab/smol --out ./smol\n\n\
        --out is for models that this node may open; every file is hashed before it appears under its name.")]
    Fetch(FetchArgs),
    /// Run a model on your own labelled data, judge both, and sign what came out as an endorsement
    #[command(after_help = validator::HELP)]
    Validate(ValidateArgs),
    /// Grade as a job, what this node stakes on its findings, rounds of grading, and who was convicted of what
    #[command(subcommand)]
    Validator(ValidatorCommand),
    /// What a validator's record makes of its findings, and what it has at stake
    #[command(after_help = "Examples:\n  zero2ai reputation\n  zero2ai reputation NODE-KEY --json")]
    Reputation(ReputationArgs),
    /// Which validators have how much stake behind them. Reads this home's own files
    #[command(after_help = "Example:\n  zero2ai elections --json")]
    Elections,
    /// What a model's grades come to: quality, latency, confidence, who contributed what
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    #[command(
        after_help = "Examples:\n  zero2ai score lab/digits --explain\n  zero2ai score lab/digits --version 2 --json\n  \
        zero2ai score verify audit.cbor --genesis genesis.cbor\n\n\
        The score is recomputed here from the endorsements, each proved from the pool's genesis on."
    )]
    Score(ScoreArgs),
    /// Look a name up: its version, and who serves it how far away
    #[command(
        after_help = "Examples:\n  zero2ai resolve lab/digits\n  zero2ai resolve lab/digits:stable --fresh --json"
    )]
    Resolve(ResolveArgs),
    /// List the pool's models, what happened to one, hand one on
    #[command(subcommand)]
    Names(NamesCommand),
    /// Send pictures, a sound, rows or tensors to the nearest endpoint of a model and print what it answers
    #[command(
        after_help = "Examples:\n  zero2ai predict lab/digits rows.csv\n  zero2ai predict lab/cats cat.jpg dog.png\n  \
        zero2ai predict lab/speech clip.wav --json\n  zero2ai predict lab/digits labelled.csv --labelled\n  \
        echo '{\"inputs\":[{\"name\":\"\",\"shape\":[1,2],\"data\":[0.5,1]}]}' | zero2ai predict lab/m --input - --json"
    )]
    Predict(PredictArgs),
    /// Turn texts into rows of numbers with an embedder of the pool
    #[command(after_help = "Examples:\n  zero2ai embed lab/minilm \"A cat sits.\" \"A dog runs.\"\n  \
        zero2ai embed lab/minilm --lines texts.txt --json\n  cat texts.txt | zero2ai embed lab/minilm --lines -")]
    Embed(EmbedArgs),
    /// Generate text with a language model of the pool, token by token
    #[command(after_help = "Examples:\n  zero2ai run lab/chat \"Why is the sky blue?\"\n  \
        zero2ai run lab/chat \"Once upon a time\" --raw --max-tokens 64 --temperature 0.8 --seed 7")]
    Run(RunArgs),
    /// Which models are in this node's memory; keep one there, or let it go
    #[command(subcommand)]
    Models(ModelsCommand),
    /// List, check, pin and free what this node's store holds
    #[command(subcommand)]
    Store(StoreCommand),
    /// Blocks, transactions and evidence as they lie on this home's disk; replay and check all of it
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// What the node of --home is, holds and does
    #[command(after_help = "Examples:\n  zero2ai status\n  zero2ai status --peers\n  zero2ai status --home ~/b --json")]
    Status(StatusArgs),
    /// Peers, transfers and calls of the node of --home as they change, until Ctrl-C
    #[command(after_help = "Examples:\n  zero2ai top\n  zero2ai top --interval 5 --count 12 --json")]
    Top(TopArgs),
    /// Why can't I reach this? Checks home, node, clock, peers, chain and rights, then a model or a node; a line each
    #[command(
        after_help = "Examples:\n  zero2ai doctor\n  zero2ai doctor lab/chat\n  zero2ai doctor NODE-KEY --json\n\n\
        It stops at nothing; the exit code is that of the first thing that fails."
    )]
    Doctor(DoctorArgs),
    /// Who published a model, who graded it with what figures, who used it, with every proof checked
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    #[command(after_help = "Examples:\n  zero2ai audit lab/digits --export audit.cbor\n  \
        zero2ai audit lab/digits --csv --from 2026-08-01 --to 2026-09-01 > august.csv\n  \
        zero2ai pool genesis --out genesis.cbor\n  zero2ai audit verify audit.cbor --genesis genesis.cbor   # needs no node\n  \
        zero2ai run lab/chat \"Why?\" --save-call call.cbor && zero2ai audit re-run call.cbor")]
    Audit(AuditArgs),
    /// Tell a model's owner what was true of a call that you kept: sealed to him, and signed by you
    #[command(after_help = outcomes::OUTCOME_HELP)]
    Outcome(OutcomeArgs),
    /// What callers said of a model that this node owns, and whether it became worse
    #[command(after_help = outcomes::OUTCOMES_HELP)]
    Outcomes(OutcomesArgs),
    /// Stop the node of --home in order
    #[command(after_help = "Example:\n  zero2ai stop --home ~/b")]
    Stop,
    /// Accounts for programs without a node; what each account had of this one
    #[command(subcommand)]
    Account(AccountCommand),
    /// Who may ask the HTTP gateway: tokens with scopes, expiry, rates and budgets, and what each has used
    #[command(subcommand)]
    Token(TokenCommand),
    /// Run the node of --home as a systemd service
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Print what a shell must know to complete command lines of this program
    #[command(after_help = "Examples:\n  zero2ai completions bash > /etc/bash_completion.d/zero2ai\n  \
        zero2ai completions zsh > ~/.zfunc/_zero2ai\n  zero2ai completions fish > ~/.config/fish/completions/zero2ai.fish")]
    Completions(CompletionsArgs),
    /// What a file or folder is: format, inputs and outputs, memory, what it is likely for. Needs no node; nothing is published
    #[command(after_help = "Examples:\n  zero2ai inspect cats.onnx\n  zero2ai inspect ./all-MiniLM-L6-v2 --json")]
    Inspect(InspectArgs),
    /// What this machine offers to run models on
    #[command(after_help = "Example:\n  zero2ai hardware --json")]
    Hardware,
    /// The whole job before your eyes: a pool of several nodes publishes, grades, names, serves and audits a model
    #[command(after_help = "Examples:\n  zero2ai demo\n  zero2ai demo --llm --report demo.json\n  \
        zero2ai demo --nodes 7 --keep --homes ~/pool --export ~/audit")]
    Demo(DemoArgs),
    /// (internal) Run models for a node, inside the sandbox
    #[command(hide = true)]
    Worker,
}

/// Arguments of `up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Join the pool of this invite (a secret: prefer --join-file where others can list processes)
    #[arg(long, value_name = "INVITE", conflicts_with = "join_file")]
    pub(crate) join: Option<String>,
    /// Join with the invite in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) join_file: Option<PathBuf>,
    /// Without a ledger yet, fetch and execute every block since the genesis, instead of beginning with a snapshot of the
    /// ledger's state that its signers vouch for
    #[arg(long)]
    pub(crate) full_history: bool,
    /// Address of peer RPC (UDP), over config.toml's
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address of the swarm (UDP), over config.toml's [default: the IP of --listen, any port]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) swarm_listen: Option<SocketAddr>,
    /// Where this machine stands, over config.toml's: 1 to 32 of a-z, 0-9 and -. Told with every endpoint; nobody checks it
    #[arg(long, value_name = "NAME", value_parser = region)]
    pub(crate) region: Option<String>,
    /// Also answer HTTP (OpenAI and Open Inference Protocol) here, over config.toml's. Beyond loopback it needs TLS
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) http: Option<SocketAddr>,
    /// Memory that all loaded models together may take, over config.toml's: 512MiB, 8GiB. One that does not fit when it is called
    /// makes idle ones go, the least recently used first [default: three quarters of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = models::memory_mib)]
    pub(crate) model_memory: Option<u64>,
    #[command(flatten)]
    pub(crate) tls: HttpTlsArgs,
    /// (internal) Stop when standard input ends: the demo's nodes go when the demo does
    #[arg(long, hide = true)]
    pub(crate) until_stdin_closes: bool,
}

fn region(text: &str) -> Result<String, String> {
    if zero2ai_proto::record::is_region(text) {
        Ok(text.to_owned())
    } else {
        Err("a region is 1 to 32 of a-z, 0-9 and -".to_owned())
    }
}

/// TLS of the HTTP gateway.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct HttpTlsArgs {
    /// Give HTTP over TLS with this certificate: a PEM file, the chain behind it
    #[arg(long, value_name = "FILE", requires = "http_tls_key")]
    pub(crate) http_tls_cert: Option<PathBuf>,
    /// Its private key, a PEM file
    #[arg(long, value_name = "FILE", requires = "http_tls_cert")]
    pub(crate) http_tls_key: Option<PathBuf>,
    /// Give HTTP over TLS with a certificate that this node makes and keeps; its fingerprint is printed
    #[arg(long, value_enum, value_name = "HOW", conflicts_with = "http_tls_cert")]
    pub(crate) http_tls: Option<HttpTls>,
    /// A name or IP address that the node's own certificate is to bear; may be given several times
    #[arg(long, value_name = "NAME", requires = "http_tls")]
    pub(crate) http_tls_name: Vec<String>,
}

/// Whose certificate, if none is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HttpTls {
    /// The node's own.
    SelfSigned,
}

/// `pool ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Make a pool in --home without starting the node; 'up' does it by itself
    #[command(after_help = "Example:\n  zero2ai pool create --home ~/lab")]
    Create,
    /// Print an invite: one line with the pool key and a signed ticket. Treat it like a password
    #[command(
        after_help = "Examples:\n  zero2ai pool invite\n  zero2ai pool invite --rights provider,user --uses 3 --ttl 10m"
    )]
    Invite {
        /// Rights it gives: member, or a list of admin, signer, validator, publisher, provider, auditor, user
        #[arg(long, default_value = "member", value_parser = rights)]
        rights: Rights,
        /// How many identities it admits
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        uses: u32,
        /// How long it can be redeemed: 30s, 10m, 1h, 7d
        #[arg(long, default_value = "1h", value_parser = duration)]
        ttl: Duration,
    },
    /// Members, their rights, and who signs blocks
    #[command(after_help = "Example:\n  zero2ai pool show --json")]
    Show,
    /// Replace the set of block signers, two heights later
    #[command(after_help = "Example:\n  zero2ai pool signers KEY1 KEY2=2 KEY3 KEY4\n\n\
        Two or three signers stop for good when one dies: grow from one to four, or insist with --force.")]
    Signers {
        /// The whole new set: node keys (64 hexadecimal digits), each with =POWER if it is not 1
        #[arg(required = true, value_parser = signer, value_name = "NODE[=POWER]")]
        signers: Vec<Signer>,
        /// Accept a set of two or three
        #[arg(long)]
        force: bool,
    },
    /// Set the rights of a member; 'none' revokes it
    #[command(after_help = "Examples:\n  zero2ai pool rights KEY member,auditor\n  zero2ai pool rights KEY none")]
    Rights {
        /// The member's node key
        node: NodeId,
        /// Its rights from now on
        #[arg(value_parser = rights)]
        rights: Rights,
    },
    /// Take a member's rights away, and make a new pool key that every other member fetches by itself
    #[command(after_help = "Examples:\n  zero2ai pool revoke KEY\n  zero2ai pool revoke KEY --keep-key\n\n\
        What the member was given before (chunks, keys of models, the old pool key) it keeps. See also 'zero2ai revoke --help'.")]
    Revoke {
        /// The member's node key
        node: NodeId,
        /// How long the old key still opens everything, for members and invites under way: 0s, 10m, 1h, up to 7d
        #[arg(long, default_value = "10m", value_parser = grace, value_name = "TIME")]
        grace: Duration,
        /// Leave the pool key as it is
        #[arg(long, conflicts_with = "grace")]
        keep_key: bool,
    },
    /// Make a new pool key; members fetch it by themselves, also those that were away. Old invites end with the grace
    #[command(after_help = "Example:\n  zero2ai pool rotate --grace 1h")]
    Rotate {
        /// How long the old key still opens everything: 0s, 10m, 1h, up to 7d
        #[arg(long, default_value = "10m", value_parser = grace, value_name = "TIME")]
        grace: Duration,
    },
    /// Name the rules that blocks follow from a height on: members whose program lacks them stop there until they are updated
    #[command(after_help = "Examples:\n  zero2ai pool upgrade 2 --height 120000\n  \
        zero2ai pool upgrade 1   # rules 1 being in force: takes a change back that is still to come")]
    Upgrade {
        /// Version of the rules: one above those in force
        rules: u16,
        /// The first block that follows them, at least two after the next; leave members time to update
        #[arg(long)]
        height: Option<u64>,
        /// Name rules that this program itself does not know
        #[arg(long)]
        force: bool,
    },
    /// Set what a member has to stake, as rights are set: units that mean nothing outside of the pool. Needs rules 2
    #[command(after_help = "Example:\n  zero2ai pool allot NODE-KEY 1000\n\n\
        A pool in which nothing was ever allotted grades by reputation alone: every validator weighs one.")]
    Allot {
        /// The member's node key
        node: NodeId,
        /// What it has from now on that it never staked; what it earned it keeps
        amount: u64,
    },
    /// What validators are paid from at the end of an epoch, by agreement: shows it, or sets what it holds. Needs rules 2
    #[command(after_help = "Examples:\n  zero2ai pool pot\n  zero2ai pool pot 500\n\n\
        An epoch is the window of 'zero2ai pool grading'. What nobody earned stays in the pot. Pools that allot nothing leave it empty.")]
    Pot {
        /// What it holds from now on, in the units of 'pool allot'
        amount: Option<u64>,
    },
    /// How models are graded in rounds: shows it, or sets what is given. Needs rules 2
    #[command(after_help = "Examples:\n  zero2ai pool grading\n  zero2ai pool grading --commit 400 --seats 11\n\n\
        Rounds that are open already go on as they were opened.")]
    Grading(GradingArgs),
    /// Write the pool's genesis to a file: all that an offline verifier needs to hold
    #[command(after_help = "Example:\n  zero2ai pool genesis --out genesis.cbor")]
    Genesis {
        /// Where to
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// Sealing domains, as they are typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DomainArg {
    /// Anyone who may run models; shares chunks with every public model anywhere. No secrecy
    Public,
    /// The pool's providers and validators; shares chunks with the pool's other models
    Pool,
    /// Those whom you grant it; shares chunks with your other private models
    Private,
}

impl From<DomainArg> for Domain {
    fn from(arg: DomainArg) -> Self {
        match arg {
            DomainArg::Public => Self::Public,
            DomainArg::Pool => Self::Pool,
            DomainArg::Private => Self::Private,
        }
    }
}

/// Arguments of `publish`.
#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// A file (ONNX, GGUF, safetensors), a folder with all files of a model (hidden files stay out, links are not followed), or
    /// hf:ORG/REPO[@REVISION], downloaded from a model hub and checked
    pub(crate) path: PathBuf,
    /// Its name; the handle is claimed if it is free
    #[arg(long, value_name = "PUBLISHER/MODEL")]
    pub(crate) name: ModelName,
    /// Whom its key is given to, and what it shares chunks with
    #[arg(long, value_enum, default_value_t = DomainArg::Pool)]
    pub(crate) domain: DomainArg,
    /// Copies wanted on other nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=64))]
    pub(crate) replicas: u32,
    /// Store changed tensors as differences to this version, where that is shorter: publisher/model@3
    #[arg(long, value_name = "NAME@VERSION")]
    pub(crate) base: Option<ModelRef>,
    /// Publish without running it first, and do not serve it: for what this program cannot run, or has no memory for
    #[arg(long)]
    pub(crate) store_only: bool,
    /// Golden inputs and outputs, recorded by testnet/samples/record.py: a node that does not reproduce them does not serve it
    #[arg(long, value_name = "FILE", conflicts_with = "store_only")]
    pub(crate) samples: Option<PathBuf>,
    /// It takes pictures, of this size and made into numbers in this way
    #[arg(long, value_name = "SPEC", value_parser = media::image, long_help = media::IMAGE_HELP)]
    pub(crate) image: Option<Preparation>,
    /// It takes a sound, at this rate
    #[arg(long, value_name = "SPEC", value_parser = media::audio, long_help = media::AUDIO_HELP, conflicts_with = "image")]
    pub(crate) audio: Option<Preparation>,
    /// Of a hub's files only those that fit ('*' is any run of characters); may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub(crate) only: Vec<String>,
    /// Base address of the hub
    #[arg(long, env = "HF_ENDPOINT", value_name = "URL", default_value = "https://huggingface.co")]
    pub(crate) hub: String,
    /// Leave the downloaded files in the home folder once they are published
    #[arg(long)]
    pub(crate) keep_download: bool,
    /// The data it was made with, a table or a folder: fingerprints of it are published beside its files, open to whoever is given its
    /// key, so that validators tell whether they grade it on samples that it has seen
    #[arg(long, value_name = "PATH")]
    pub(crate) train_data: Option<PathBuf>,
    /// Its column of classes or expected answers [default: the last one, or 'expected']
    #[arg(long, value_name = "COLUMN", requires = "train_data")]
    pub(crate) train_label: Option<String>,
    /// Seconds to wait for the first validator to grade it; once one did, ten times as long for two more
    #[arg(long, value_name = "SECONDS", env = "ZERO2AI_PUBLISH_WAIT", default_value_t = 30)]
    pub(crate) wait: u64,
    /// Do not wait for its grade
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Macro F1 (of what is no classifier the share of right answers) from which an endorsement counts for the model, 0 to 1
    #[arg(long, default_value = "0.9", value_parser = fraction_ppm, value_name = "F1")]
    pub(crate) accept: u32,
    /// The same down from which it counts against it, 0 to 1
    #[arg(long, default_value = "0.7", value_parser = fraction_ppm, value_name = "F1")]
    pub(crate) reject: u32,
}

/// Arguments of `fetch`.
#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// publisher/model, publisher/model@3 or publisher/model:channel
    pub(crate) name: ModelRef,
    /// Also load it and announce this node as an endpoint
    #[arg(long)]
    pub(crate) serve: bool,
    /// Also write its files into this folder, as they were published: plaintext, readable by you alone
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// Let --out replace files that are there
    #[arg(long, requires = "out")]
    pub(crate) force: bool,
}

/// Arguments of `resolve`.
#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    /// publisher/model, publisher/model@3 or publisher/model:channel
    pub(crate) name: ModelRef,
    /// Ask the network, whatever the node's cache holds
    #[arg(long)]
    pub(crate) fresh: bool,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A file, or a folder with all files of a model
    pub(crate) path: PathBuf,
    /// Also see whether it reproduces these golden inputs and outputs; a model that runs at fixed sizes alone takes theirs
    #[arg(long, value_name = "FILE")]
    pub(crate) samples: Option<PathBuf>,
}

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// publisher/model, publisher/model@3 or publisher/model:channel
    pub(crate) name: ModelRef,
    /// What to predict from: pictures (PNG, JPEG, WebP, BMP; several are a batch), a sound (WAV, FLAC, Ogg Vorbis, MP3), CSV rows of
    /// numbers, or JSON {"inputs":[{"name","shape","data"}]}; '-' reads standard input. What a file is, its content says
    #[arg(value_name = "FILE", required_unless_present = "input")]
    pub(crate) files: Vec<PathBuf>,
    /// The same, for one file
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    pub(crate) input: Option<PathBuf>,
    /// The CSV's last column is the true class: leave it out of the input and print how many were right
    #[arg(long)]
    pub(crate) labelled: bool,
    /// Keep the whole call in this file, readable by you alone: input, output, salt and both signatures, for 'audit re-run'
    #[arg(long, value_name = "FILE")]
    pub(crate) save_call: Option<PathBuf>,
    /// Give up after; ten minutes at most
    #[arg(long, default_value = "30s", value_parser = deadline)]
    pub(crate) timeout: Duration,
}

/// Arguments of `embed`.
#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    /// publisher/model, publisher/model@3 or publisher/model:channel
    pub(crate) name: ModelRef,
    /// The texts
    #[arg(required_unless_present = "lines", conflicts_with = "lines")]
    pub(crate) texts: Vec<String>,
    /// A file with one text a line; '-' reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) lines: Option<PathBuf>,
    /// Cut texts that are too long for the model instead of refusing them
    #[arg(long)]
    pub(crate) truncate: bool,
    /// Give up after; ten minutes at most
    #[arg(long, default_value = "60s", value_parser = deadline)]
    pub(crate) timeout: Duration,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// publisher/model, publisher/model@3 or publisher/model:channel
    pub(crate) name: ModelRef,
    /// What to say to it
    pub(crate) prompt: String,
    /// Take the prompt as it stands instead of as one message of a chat
    #[arg(long, conflicts_with = "system")]
    pub(crate) raw: bool,
    /// Instructions that come before the prompt
    #[arg(long)]
    pub(crate) system: Option<String>,
    /// New tokens at most
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=i64::from(zero2ai_proto::limits::NEW_TOKENS)))]
    pub(crate) max_tokens: u32,
    /// 0 takes the likeliest token; 1 samples from the model's own distribution
    #[arg(long, default_value = "0", value_parser = milli)]
    pub(crate) temperature: u32,
    /// Sample among the likeliest so many only; 0 is all
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: u32,
    /// Sample among the likeliest that together have this probability, 0 to 1
    #[arg(long, default_value = "1", value_parser = milli)]
    pub(crate) top_p: u32,
    /// Sample among those with at least this share of the likeliest one's probability, 0 to 1
    #[arg(long, default_value = "0", value_parser = milli)]
    pub(crate) min_p: u32,
    /// More than 1 makes tokens of the prompt and of the answer so far less likely
    #[arg(long, default_value = "1", value_parser = milli)]
    pub(crate) repetition_penalty: u32,
    /// Makes a token less likely each time that the answer has it, 0 to 2
    #[arg(long, default_value = "0", value_parser = milli)]
    pub(crate) frequency_penalty: u32,
    /// Makes each token that the answer has less likely, 0 to 2
    #[arg(long, default_value = "0", value_parser = milli)]
    pub(crate) presence_penalty: u32,
    /// Same seed, same text
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Keep the whole call in this file, readable by you alone: prompt, tokens, salt and both signatures, for 'audit re-run'
    #[arg(long, value_name = "FILE")]
    pub(crate) save_call: Option<PathBuf>,
    /// Give up after; ten minutes at most
    #[arg(long, default_value = "5m", value_parser = deadline)]
    pub(crate) timeout: Duration,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Do the same with a real language model (downloads 93 MB once)
    #[arg(long)]
    pub(crate) llm: bool,
    /// Nodes of the pool; a user's node joins late on top of four
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(4..=16))]
    pub(crate) nodes: u8,
    /// Write the figures as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Write genesis.cbor and audit.cbor into this folder, for an independent verifier
    #[arg(long, value_name = "DIR")]
    pub(crate) export: Option<PathBuf>,
    /// Leave the homes and the nodes running, and say how to use them
    #[arg(long)]
    pub(crate) keep: bool,
    /// Folder for the homes [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub(crate) homes: Option<PathBuf>,
}

/// Reads a list of rights; `none` is the empty set.
fn rights(text: &str) -> Result<Rights, String> {
    if text == "none" {
        return Ok(Rights::default());
    }
    Rights::parse(text).ok_or_else(|| format!("write 'member', 'none' or a list of {}", Rights::NAMES.join(",")))
}

/// Reads `KEY` or `KEY=POWER`.
fn signer(text: &str) -> Result<Signer, String> {
    let (key, power) = text.split_once('=').unwrap_or((text, "1"));
    let key = key.parse().map_err(|e| format!("{e}"))?;
    let most = zero2ai_proto::limits::SIGNER_POWER;
    let power = power.parse().ok().filter(|p| (1..=most).contains(p)).ok_or("the power after '=' is 1 or more")?;
    Ok(Signer { key, power })
}

/// Reads `90s`, `10m`, `1h`, `7d`; at most ten years, so that adding it to a clock never overflows.
fn duration(text: &str) -> Result<Duration, String> {
    let fail = || "write a whole number and a unit: 500ms, 30s, 10m, 1h, 7d".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(fail)?;
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(fail()),
    };
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms)).ok_or_else(fail)?;
    if ms == 0 || ms > 10 * 365 * 86_400_000 {
        return Err("between a millisecond and ten years, please".into());
    }
    Ok(Duration::from_millis(ms))
}

/// Reads how long an old pool key is good: also not at all.
fn grace(text: &str) -> Result<Duration, String> {
    let span = if text == "0s" { Duration::ZERO } else { duration(text)? };
    if span > Duration::from_millis(zero2ai_proto::limits::KEY_GRACE_MS) {
        return Err("a week at most".into());
    }
    Ok(span)
}

/// Reads a duration that the deadline of a signed request may lie ahead.
fn deadline(text: &str) -> Result<Duration, String> {
    let most = Duration::from_millis(zero2ai_proto::limits::REQUEST_HORIZON_MS);
    duration(text).and_then(|d| if d <= most { Ok(d) } else { Err("ten minutes at most, please".into()) })
}

/// Reads a decimal fraction from 0 to 1 as millionths.
fn fraction_ppm(text: &str) -> Result<u32, String> {
    scaled(text, 1_000_000.0, 1.0).ok_or_else(|| "a number from 0 to 1, please".into())
}

/// Reads a decimal from 0 to 4 as thousandths.
fn milli(text: &str) -> Result<u32, String> {
    scaled(text, 1000.0, 4.0).ok_or_else(|| "a number from 0 to 4, please".into())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded to 0 ..= max * scale just before
fn scaled(text: &str, scale: f64, max: f64) -> Option<u32> {
    let value: f64 = text.parse().ok()?;
    (0.0..=max).contains(&value).then(|| (value * scale).round() as u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_read() {
        assert_eq!(duration("90s").unwrap(), Duration::from_secs(90));
        assert!(duration("0s").is_err() && duration("1").is_err() && duration("99999999999999999999d").is_err());
        assert!(deadline("10m").is_ok() && deadline("11m").is_err());
        assert_eq!(fraction_ppm("0.9").unwrap(), 900_000);
        assert!(fraction_ppm("1.1").is_err() && fraction_ppm("NaN").is_err());
        assert_eq!(rights("none").unwrap(), Rights(0));
        assert!(rights("king").is_err());
        let key = "ab".repeat(32);
        assert_eq!(signer(&format!("{key}=3")).unwrap().power, 3);
        assert!(signer(&format!("{key}=0")).is_err() && signer("xyz").is_err());
    }
}
