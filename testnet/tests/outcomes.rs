//! Outcomes between daemons: a caller says what was true, the model's owner counts, alarms when answers become worse, and opens a round
//! of grading; nobody else can say it, nothing is counted twice, and neither a restart nor an owner who is away loses any.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path, time::Duration};

use serde_json::Value;
use zero2ai_chunk::{Sealed, seal_to};
use zero2ai_client::{Client, ClientConfig};
use zero2ai_proto::{
    ByteBuf, PoolId, SealingKey, SecretKey, Signed,
    calls::{OutcomeCall, OutcomeTaken, TellOutcome},
    decode, encode,
    kept::KeptCall,
    outcome::{Outcome, OutcomeInfo, OutcomeReport, Shown, Truth},
    pool::Invite,
    rpc::ErrorCode,
};
use zero2ai_rpc::CallError;
use zero2ai_testnet::{Daemon, fixture, until};

const PATIENCE: Duration = Duration::from_secs(60);
/// Rows of one call.
const ROWS: usize = 10;
/// Calls whose answers are told to be right, mostly, then wrong, and then wrong by another account, too.
const CALLS: [usize; 3] = [7, 4, 2];
/// "The pool or the ledger refuses".
const DENIED: i32 = 6;
/// "The input or request is not acceptable".
const INVALID: i32 = 7;

fn up(dir: &Path, name: &str, extra: &[&str]) -> Daemon {
    let home = dir.join(name);
    fs::create_dir_all(&home).unwrap();
    // Heights are what rounds are counted in.
    fs::write(home.join("config.toml"), "heartbeat_ms = 500\n").unwrap();
    Daemon::up(&home, extra).unwrap()
}

fn secret(node: &Daemon) -> SecretKey {
    SecretKey::from_bytes(&fs::read(node.home().join("node.key")).unwrap().try_into().unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn shown(owner: &Daemon) -> Value {
    owner.json(&["outcomes", "lab/digits"]).unwrap()
}

fn version(owner: &Daemon) -> Value {
    shown(owner)["versions"][0].clone()
}

/// Calls the model on rows of the fixture, keeps the call, and returns the true classes.
fn predict(caller: &Daemon, dir: &Path, nth: usize) -> Vec<u16> {
    let all = fs::read_to_string(fixture("digits/heldout-1.csv")).unwrap();
    let mut lines = all.lines();
    let head = lines.next().unwrap();
    let rows: Vec<&str> = lines.skip(nth * ROWS).take(ROWS).collect();
    let (file, call) = (dir.join("rows.csv"), dir.join(format!("{nth}.call")));
    fs::write(&file, format!("{head}\n{}\n", rows.join("\n"))).unwrap();
    caller.until(&["predict", "lab/digits", text(&file), "--labelled", "--save-call", text(&call)]).unwrap();
    rows.iter().map(|row| row.rsplit(',').next().unwrap().trim().parse().unwrap()).collect()
}

fn labels(classes: &[u16]) -> String {
    classes.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

/// Sends a report over the wire under an identity of the test's choice.
struct Wire {
    invite: Invite,
    pool: PoolId,
    sealing: SealingKey,
}

impl Wire {
    fn tell(
        &self,
        report: &OutcomeReport,
        sealed_by: &SecretKey,
        sent_by: &SecretKey,
    ) -> Result<OutcomeTaken, ErrorCode> {
        let owner = &self.invite.bootstrap[0];
        let info = encode(&OutcomeInfo::new(self.pool, sealed_by.public(), owner.node)).unwrap();
        let Sealed { encapsulated, ciphertext } = seal_to(&encode(report).unwrap(), &self.sealing, &info).unwrap();
        let bootstrap = vec![(owner.node, owner.addresses.clone())];
        let (pool, pool_key) = (self.pool, self.invite.key.clone());
        let config = ClientConfig { key: sent_by.clone(), pool, pool_key, bootstrap, genesis: None };
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let client = Client::connect(config).await.unwrap();
            let call = OutcomeCall { encapsulated, ciphertext };
            match client.call::<TellOutcome>(owner.node, &owner.addresses, &call, PATIENCE).await {
                Ok(taken) => Ok(taken),
                Err(CallError::Remote(error)) => Err(error.code),
                Err(other) => panic!("{other}"),
            }
        })
    }
}

fn report(call: &KeptCall, truths: Vec<Truth>, pool: &PoolId, key: &SecretKey) -> OutcomeReport {
    let outcome = Outcome { receipt: call.receipt.id().unwrap(), truths, time_ms: 1 };
    let outcome = Signed::sign(&outcome, pool, key).unwrap();
    // The output goes along whatever is said.
    let shown = Shown::of(call.clone(), &[Truth::Class(0)], false).unwrap();
    OutcomeReport::new(outcome, call.receipt.clone(), shown)
}

#[test]
fn outcomes_that_turn_wrong_alarm_their_owner_who_opens_a_round_and_nobody_can_make_them_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = up(dir.path(), "owner", &[]);
    let join = |name: &str| {
        let (file, invite) = (dir.path().join("invite"), owner.json(&["pool", "invite"]).unwrap());
        fs::write(&file, invite["invite"].as_str().unwrap()).unwrap();
        up(dir.path(), name, &["--join-file", text(&file)])
    };
    let (caller, stranger) = (join("caller"), join("stranger"));
    let model = fixture("digits/digits.onnx");
    owner.json(&["publish", text(&model), "--name", "lab/digits", "--replicas", "0"]).unwrap();

    // Under rules 1: calls, of which the owner hears that most were right.
    let send_by = |by: &Daemon, nth: usize, truth: &[&str]| {
        let call = dir.path().join(format!("{nth}.call"));
        let ran = by.run(&[&["outcome", text(&call), "--json"], truth].concat()).unwrap();
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        ran.json().unwrap()
    };
    let send = |nth: usize, truth: &[&str]| send_by(&caller, nth, truth);
    for nth in 0..CALLS[0] {
        let classes = predict(&caller, dir.path(), nth);
        let input: &[&str] = if nth < 2 { &["--with-input"] } else { &[] };
        let sent = send(nth, &[&["--label", &labels(&classes)], input].concat());
        assert_eq!((&sent["sent"], &sent["fresh"]), (&true.into(), &true.into()), "{sent}");
    }
    let steady = version(&owner);
    assert_eq!((&steady["outcomes"], &steady["rows"]), (&CALLS[0].into(), &(CALLS[0] * ROWS).into()), "{steady}");
    assert!(steady["wrong"].as_u64().unwrap() <= 5 && steady["alarms"] == serde_json::json!([]), "{steady}");

    forgeries(&owner, &caller, &stranger, dir.path());
    assert_eq!(version(&owner), steady, "what was refused, or told before, counts for nothing");

    // From here on there are rounds.
    let height = |node: &Daemon| node.json(&["status"]).unwrap()["height"].as_u64().unwrap();
    let first = height(&owner) + 4;
    owner.json(&["pool", "upgrade", "2", "--height", &first.to_string()]).unwrap();
    until("rules 2 are in force", PATIENCE, || height(&owner) >= first);

    // The owner is killed, and hears of what came meanwhile when it is back; what it had is there.
    let last = CALLS[0];
    predict(&caller, dir.path(), last);
    owner.kill();
    let sent = send(last, &["--wrong"]);
    assert_eq!((&sent["sent"], &sent["waiting"]), (&false.into(), &1.into()), "{sent}");
    owner.start(&[]).unwrap();
    until("the outcome that waited", PATIENCE, || version(&owner)["outcomes"] == CALLS[0] + 1);
    assert_eq!(version(&owner)["rows"], CALLS[0] * ROWS + 1, "the word on a whole call is one row");

    // Answers turn wrong, by the word of the one account that speaks: an alarm, and no round in a pool of more callers.
    let wrong = |by: &Daemon, nth: usize| {
        let classes: Vec<u16> = predict(by, dir.path(), nth).iter().map(|class| (class + 1) % 10).collect();
        send_by(by, nth, &["--label", &labels(&classes)]);
    };
    (last + 1..=last + CALLS[1]).for_each(|nth| wrong(&caller, nth));
    let alarmed = version(&owner);
    let alarm = &alarmed["alarms"][0];
    assert!(alarm["after"].as_f64() > alarm["before"].as_f64(), "{alarmed}");
    assert!(alarm["rows"].as_u64().unwrap() > (CALLS[0] * ROWS) as u64, "{alarmed}");
    assert_eq!((&alarm["accounts"], &alarm["needed"]), (&1.into(), &2.into()), "{alarmed}");
    let seen = height(&owner);
    until("some more blocks", PATIENCE, || height(&owner) >= seen + 6);
    assert_eq!(version(&owner)["alarms"][0]["round"], Value::Null, "one account alone opens no round");
    // Another one sees it, too.
    (0..CALLS[2]).for_each(|nth| wrong(&stranger, last + CALLS[1] + 1 + nth));
    assert_eq!(version(&owner)["alarms"][0]["accounts"], 2, "{}", version(&owner));
    until("a round that answers the alarm", PATIENCE, || version(&owner)["alarms"][0]["round"] == 1);
    let rounds = owner.json(&["validator", "rounds", "lab/digits"]).unwrap();
    assert_eq!(rounds["rounds"].as_array().unwrap().len(), 1, "one round however many alarms: {rounds}");
    until("no alarm is left", PATIENCE, || owner.json(&["status"]).unwrap()["alarms"] == serde_json::json!([]));

    // A line for each row, and the same after another restart.
    let lines = dir.path().join("outcomes.csv");
    owner.json(&["outcomes", "lab/digits", "--out", text(&lines)]).unwrap();
    let told = CALLS.iter().sum::<usize>() * ROWS + 1;
    assert_eq!(fs::read_to_string(&lines).unwrap().lines().count(), told + 1);
    let before = shown(&owner);
    owner.kill();
    owner.start(&[]).unwrap();
    assert_eq!(shown(&owner), before);
    augmented(&owner, dir.path());
    assert_eq!(stranger.run(&["outcomes", "lab/digits"]).unwrap().code, 5, "who does not own it has none");
}

/// A set to train on: the two calls whose inputs came along, and copies of them, which the model's own commands read.
fn augmented(owner: &Daemon, dir: &Path) {
    let (set, seed) = (dir.join("set"), "07".repeat(32));
    let words = ["outcomes", "lab/digits", "--augment", text(&set), "--copies", "3", "--seed", &seed];
    let told = owner.json(&words).unwrap()["augmented"].clone();
    assert_eq!((&told["rows"], &told["row_copies"]), (&(2 * ROWS).into(), &(6 * ROWS).into()), "{told}");
    let rest = (CALLS.iter().sum::<usize>() - 2) * ROWS + 1;
    assert_eq!(
        told["left_out"],
        serde_json::json!({ "no_input": rest, "personal": 0, "no_label": 0, "other_kind": 0 })
    );
    let manifest: Value = serde_json::from_slice(&fs::read(set.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["seed"], seed);
    let original = fs::read_to_string(fixture("digits/heldout-1.csv")).unwrap();
    let rows = fs::read_to_string(set.join("rows.csv")).unwrap();
    assert_eq!(rows.lines().skip(1).collect::<Vec<_>>(), original.lines().skip(1).take(2 * ROWS).collect::<Vec<_>>());
    let copies = owner.until(&["predict", "lab/digits", text(&set.join("rows-perturbed.csv")), "--labelled"]).unwrap();
    assert!(
        copies["correct"].as_u64().unwrap() >= 5 * ROWS as u64,
        "copies are near their originals: {}",
        copies["correct"]
    );
    assert_eq!(owner.run(&words).unwrap().code, 2, "a set that is there is not written over");
}

/// What nobody can do, however he speaks to the owner.
fn forgeries(owner: &Daemon, caller: &Daemon, stranger: &Daemon, dir: &Path) {
    let file = dir.join("0.call");
    let ran = stranger.run(&["outcome", text(&file), "--wrong"]).unwrap();
    assert_eq!(ran.code, DENIED, "{}", ran.stderr);
    let again = caller.run(&["outcome", text(&file), "--wrong"]).unwrap();
    assert_eq!(again.code, INVALID, "another word on the same call: {}", again.stderr);

    let bytes = fs::read(&file).unwrap();
    let call: KeptCall = decode::<Vec<KeptCall>>(&bytes, bytes.len()).unwrap().remove(0);
    let invite = owner.json(&["pool", "invite"]).unwrap()["invite"].as_str().unwrap().to_owned();
    let invite: Invite = invite.parse().unwrap();
    let pool = invite.pool;
    let seed: [u8; 32] = fs::read(owner.home().join("sealing.key")).unwrap().try_into().unwrap();
    let sealing = zero2ai_chunk::SealingSecret::from_bytes(seed).public().unwrap();
    let wire = Wire { invite, pool, sealing };
    let (by, other) = (secret(caller), secret(stranger));
    let all = |right| vec![Truth::Right(right); ROWS];

    // The call of another: signed by himself, or signed by the caller and brought by the stranger.
    assert_eq!(wire.tell(&report(&call, all(false), &pool, &other), &other, &other), Err(ErrorCode::Invalid));
    let honest = report(&call, all(false), &pool, &by);
    assert_eq!(wire.tell(&honest, &other, &other), Err(ErrorCode::Denied));
    assert_eq!(wire.tell(&honest, &by, &other), Err(ErrorCode::Invalid), "a sealed one, caught and sent on");
    // The caller's own, told before; and altered.
    assert_eq!(wire.tell(&honest, &by, &by), Err(ErrorCode::Invalid), "another word on the same call");
    let mut altered = honest.clone();
    altered.shown.output_salt = ByteBuf::from(vec![0; 32]);
    assert_eq!(wire.tell(&altered, &by, &by), Err(ErrorCode::Invalid));
    let mut altered = honest.clone();
    altered.outcome = Signed::sign(&altered.outcome.read_unverified().unwrap(), &PoolId([0; 32]), &by).unwrap();
    assert_eq!(wire.tell(&altered, &by, &by), Err(ErrorCode::Invalid));
    // The very same that is there already counts once. It is read from where the owner keeps it.
    let kept = fs::read_dir(owner.home().join("outcomes/kept")).unwrap().map(|e| e.unwrap().path());
    let mut kept: Vec<_> = kept.filter(|path| path.extension().is_some_and(|e| e == "report")).collect();
    kept.sort();
    let bytes = fs::read(&kept[0]).unwrap();
    let first: OutcomeReport = decode(&bytes, bytes.len()).unwrap();
    assert_eq!(wire.tell(&first, &by, &by), Ok(OutcomeTaken { fresh: false }));
}
