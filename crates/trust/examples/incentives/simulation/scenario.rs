//! The rows of the table: who attacks, with how much of the stake, how, and under which rules.

/// How far a cabal moves a finding.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shift {
    /// By so many millionths.
    Ppm(i32),
    /// By so many standard deviations of an honest finding.
    Deviations(f64),
}

/// What a cabal's lie rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// Counts that its own leaves contradict.
    Contradicted,
    /// Leaves that agree with the counts and hold what the model never said.
    Forged,
    /// True answers on labels or samples that were chosen for the result: nothing that can be opened shows it.
    Rigged,
}

/// What the attackers do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attack {
    /// Nothing: honest.
    None,
    /// They praise their own models and run down the others', from an epoch on and honest before.
    Collude { own: Shift, rivals: Shift, how: How, from: usize },
    /// They run nothing and say what the ledger says already.
    Copy,
    /// They run a tenth of their samples.
    Lazy,
    /// One owner, honest, in so many identities, who runs the model once for all of them.
    Split { identities: usize },
}

/// The rules of the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Seats of a model's committee; `None` for everyone.
    pub(crate) seats: Option<usize>,
    /// Endorsements that are opened, millionths.
    pub(crate) challenged_ppm: u32,
    /// Leaves of each.
    pub(crate) leaves: u32,
    /// Whether an opening that fails voids all of the epoch's, or itself alone.
    pub(crate) void_epoch: bool,
    /// Whether a finding out of reach of the score counts against the record.
    pub(crate) reach: bool,
    /// Samples of a finding.
    pub(crate) samples: u32,
    /// Whether a score is the median of what each validator found over all epochs, or fades over the medians of the epochs.
    pub(crate) by_validator: bool,
    /// Whether rewards are also computed against random peers.
    pub(crate) peers: bool,
}

const RULES: Rules = Rules {
    seats: None,
    challenged_ppm: 100_000,
    leaves: 20,
    void_epoch: true,
    reach: true,
    samples: 4_000,
    by_validator: true,
    peers: false,
};

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// Attackers' part of the stake, hundredths.
    pub(crate) share: u64,
    pub(crate) attack: Attack,
    pub(crate) rules: Rules,
}

const VALIDATORS: u64 = 60;

impl Scenario {
    /// Attackers' and honest identities.
    pub(crate) fn identities(&self) -> (usize, usize) {
        let attackers = usize::try_from(VALIDATORS * self.share / 100).unwrap_or(0);
        let honest = usize::try_from(VALIDATORS).unwrap_or(0) - attackers;
        match self.attack {
            Attack::Split { identities } => (identities, honest),
            _ => (attackers, honest),
        }
    }
}

fn collude(how: How, ppm: i32) -> Attack {
    Attack::Collude { own: Shift::Ppm(ppm), rivals: Shift::Ppm(-ppm), how, from: 0 }
}

/// All rows, in the table's order.
pub(crate) fn all() -> Vec<Scenario> {
    let mut rows = Vec::new();
    let mut row = |name: &str, share: u64, attack: Attack, rules: Rules| {
        rows.push(Scenario { name: name.to_owned(), share, attack, rules });
    };
    row("honest", 0, Attack::None, RULES);
    for share in [10, 20, 30, 40, 45] {
        row(&format!("forged-{share}"), share, collude(How::Forged, 150_000), RULES);
    }
    let late = Attack::Collude {
        own: Shift::Ppm(150_000),
        rivals: Shift::Ppm(-150_000),
        how: How::Forged,
        from: super::EPOCHS / 2,
    };
    let late_rigged = Attack::Collude {
        own: Shift::Ppm(150_000),
        rivals: Shift::Ppm(-150_000),
        how: How::Rigged,
        from: super::EPOCHS / 2,
    };
    let low = |how| Attack::Collude { own: Shift::Ppm(0), rivals: Shift::Ppm(-150_000), how, from: 0 };
    let picked = Attack::Collude { own: Shift::Ppm(50_000), rivals: Shift::Ppm(50_000), how: How::Rigged, from: 0 };
    let quiet = |by: f64| Attack::Collude {
        own: Shift::Deviations(by),
        rivals: Shift::Deviations(-by),
        how: How::Rigged,
        from: 0,
    };
    let fading = Rules { by_validator: false, ..RULES };
    row("forged-extreme-40", 40, collude(How::Forged, 500_000), RULES);
    row("forged-little-40", 40, collude(How::Forged, 30_000), RULES);
    row("forged-late-40", 40, late, RULES);
    row("forged-31-seats-40", 40, collude(How::Forged, 150_000), Rules { seats: Some(31), ..RULES });
    row("forged-15-seats-40", 40, collude(How::Forged, 150_000), Rules { seats: Some(15), ..RULES });
    row("contradicted-40", 40, collude(How::Contradicted, 150_000), RULES);
    row("contradicted-45", 45, collude(How::Contradicted, 150_000), RULES);
    row("rigged-20", 20, collude(How::Rigged, 150_000), RULES);
    row("rigged-40", 40, collude(How::Rigged, 150_000), RULES);
    row("rigged-45", 45, collude(How::Rigged, 150_000), RULES);
    row("rigged-late-40", 40, late_rigged, RULES);
    row("rigged-31-seats-40", 40, collude(How::Rigged, 150_000), Rules { seats: Some(31), ..RULES });
    row("rigged-15-seats-40", 40, collude(How::Rigged, 150_000), Rules { seats: Some(15), ..RULES });
    row("rigged-no-reach-40", 40, collude(How::Rigged, 150_000), Rules { reach: false, ..RULES });
    row("low-ballers-40", 40, low(How::Rigged), RULES);
    row("cherry-picked-40", 40, picked, RULES);
    for by in [0.6, 1.2, 2.1, 3.0] {
        row(&format!("quiet-{by}-40"), 40, quiet(by), RULES);
    }
    row("quiet-2.1-20", 20, quiet(2.1), RULES);
    for samples in [1_000, 2_000, 8_000] {
        row(&format!("quiet-2.1-{samples}-samples-40"), 40, quiet(2.1), Rules { samples, ..RULES });
    }
    row("fading-forged-40", 40, collude(How::Forged, 150_000), fading);
    row("fading-rigged-40", 40, collude(How::Rigged, 150_000), fading);
    row("fading-cherry-picked-40", 40, picked, fading);
    row("fading-quiet-1.2-40", 40, quiet(1.2), fading);
    row("fading-quiet-1.2-8000-samples-40", 40, quiet(1.2), Rules { samples: 8_000, ..fading });
    row("copycats-30-ca-alone", 30, Attack::Copy, Rules { challenged_ppm: 0, ..RULES });
    row("copycats-30-void-one", 30, Attack::Copy, Rules { void_epoch: false, ..RULES });
    row("copycats-30", 30, Attack::Copy, RULES);
    row("copycats-45", 45, Attack::Copy, RULES);
    row("lazy-30", 30, Attack::Lazy, RULES);
    for identities in [1, 4, 12, 30] {
        let rules = Rules { peers: true, ..RULES };
        row(&format!("split-20-in-{identities}"), 20, Attack::Split { identities }, rules);
    }
    rows
}
