//! Budgets: kept in any order of calls, at once and one after another, and over crashes.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn caller(id: &str, budget: Option<u64>) -> Caller {
    Caller { id: id.to_owned(), budget }
}

fn text(prompt: u64, most: u64) -> Need {
    Need { at_once: prompt, least: 1, most }
}

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage");
        Self { _folder: folder, path }
    }

    fn meter(&self) -> Arc<Meter> {
        Arc::new(Meter::open(self.path.clone(), self.path.with_extension("tokens")).unwrap())
    }

    fn units(&self, id: &str) -> u64 {
        read(&self.path).unwrap().get(id).map_or(0, |usage| usage.units)
    }
}

#[tokio::test]
async fn a_budget_is_spent_once() {
    let place = Place::new();
    let (meter, a) = (place.meter(), caller("a", Some(10)));
    drop(meter.start(&a, Need::exact(4)).await.unwrap());
    let fault = meter.start(&a, Need::exact(7)).await.unwrap_err();
    assert_eq!(fault.status.as_u16(), 402);
    assert!(fault.message.contains("4 of 10 units") && fault.message.contains("token budget a"), "{}", fault.message);

    // A text is given what is left; beside it nothing begins until it is done.
    let mut bill = meter.start(&a, text(2, 100)).await.unwrap();
    assert_eq!(bill.held(), 4);
    assert_eq!(meter.start(&a, Need::exact(1)).await.unwrap_err().status.as_u16(), 429);
    bill.take(1);
    drop(bill);
    meter.start(&a, Need::exact(3)).await.unwrap().cancel();
    drop(meter.start(&a, Need::exact(3)).await.unwrap());
    assert_eq!(meter.start(&a, text(0, 5)).await.unwrap_err().status.as_u16(), 402);
    // A higher one holds at once.
    drop(meter.start(&caller("a", Some(11)), Need::exact(1)).await.unwrap());

    meter.write().await.unwrap();
    let usage = read(&place.path).unwrap()["a"];
    assert_eq!((usage.units, usage.counted, usage.calls), (11, 11, 4));
    assert!(usage.last_ms > 1_600_000_000_000);
}

#[tokio::test]
async fn without_a_budget_all_is_counted_and_nothing_refused() {
    let place = Place::new();
    let (meter, a) = (place.meter(), caller("a", None));
    let mut bill = meter.start(&a, text(10, u64::MAX)).await.unwrap();
    assert_eq!(bill.held(), u64::MAX);
    assert!(!place.path.exists(), "nobody waits for the disk");
    bill.take(5);
    meter.write().await.unwrap();
    assert_eq!(place.meter().lock().accounts["a"].used.units, 15, "a crash now counts nothing that was not taken");
    bill.settle(7);
    drop(bill);
    meter.write().await.unwrap();
    assert_eq!(place.units("a"), 12);
    assert_eq!(place.meter().lock().accounts["a"].used.units, 12, "and again at the next start");
}

#[tokio::test]
async fn what_cannot_be_written_is_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let meter = Arc::new(Meter::open(folder.path().join("no/usage"), folder.path().join("tokens")).unwrap());
    let fault = meter.start(&caller("a", Some(10)), Need::exact(1)).await.unwrap_err();
    assert_eq!(fault.status.as_u16(), 507);
    assert_eq!(meter.lock().accounts["a"].used.units, 0);
}

#[tokio::test]
async fn of_many_only_revoked_tokens_are_forgotten() {
    let place = Place::new();
    let terms = |name: &str| tokens::Terms {
        name: name.to_owned(),
        scopes: vec![tokens::Scope::Infer],
        expires_ms: None,
        per_minute: None,
        budget: Some(5),
    };
    let good = tokens::TokenEntry::new("secret", terms("good"), 0).unwrap();
    std::fs::write(place.path.with_extension("tokens"), tokens::write(std::slice::from_ref(&good)).unwrap()).unwrap();
    let meter = place.meter();
    for i in 0..KEPT + 9 {
        // The good one was used longest ago.
        let id = if i == 0 { good.id.clone() } else { format!("old{i}") };
        let mut known = meter.lock();
        let used = Usage { units: 1, counted: 1, calls: 1, last_ms: i as u64 };
        known.accounts.insert(id, Account { used, ..Account::default() });
        known.dirty = true;
    }
    meter.write().await.unwrap();
    let kept = read(&place.path).unwrap();
    assert_eq!(kept.len(), KEPT);
    assert!(kept.contains_key(&good.id) && !kept.contains_key("old1") && kept.contains_key("old10"));
}

#[test]
fn a_damaged_file_is_told() {
    let place = Place::new();
    std::fs::write(&place.path, b"{\"a\": 1}").unwrap();
    assert!(Meter::open(place.path.clone(), place.path.clone()).unwrap_err().to_string().contains("delete it"));
}

#[derive(Clone, Debug)]
enum Step {
    Start(u64, u64),
    Take(usize, u64),
    End(usize),
    Write,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..40u64, 0..60u64).prop_map(|(now, most)| Step::Start(now, most)),
        4 => (0..4usize, 0..9u64).prop_map(|(which, units)| Step::Take(which, units)),
        3 => (0..4usize).prop_map(Step::End),
        1 => Just(Step::Write),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, what was given is within the budget, and a start never knows of less.
    #[test]
    fn no_budget_is_overspent(steps in steps(), budget in 1..600u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (place, a) = (Place::new(), caller("a", Some(budget)));
            let (mut meter, mut bills, mut given) = (place.meter(), Vec::new(), 0u64);
            for step in steps {
                match step {
                    Step::Start(now, most) => {
                        let need = Need { at_once: now, least: u64::from(most > 0), most };
                        if let Ok(bill) = meter.start(&a, need).await {
                            given += now;
                            bills.push(bill);
                        }
                    }
                    Step::Take(which, units) => {
                        if let Some(bill) = bills.get_mut(which) {
                            let units = units.min(bill.held());
                            bill.take(units);
                            given += units;
                        }
                    }
                    Step::End(which) if which < bills.len() => drop(bills.swap_remove(which)),
                    Step::End(_) => {}
                    Step::Write => meter.write().await.unwrap(),
                    Step::Crash => {
                        // The process ends: nothing more is written, and the file is all there is.
                        bills.clear();
                        meter = place.meter();
                        let known = meter.lock().accounts.get("a").map_or(0, |account| account.used.units);
                        assert!(known >= given, "{known} are known of {given}");
                    }
                }
                assert!(given <= budget, "{given} of {budget}");
            }
        });
    }
}
