//! Guessing the next tokens from what stood there before (Saxena, "Prompt Lookup Decoding", 2023): where a text repeats
//! what it has said or was given, several tokens come out of one pass. A guess only decides what is read in advance: every
//! token is chosen from its own scores as ever, so nothing a guesser does changes an answer.

/// Tokens guessed at once, at most: with the one that is known, as many rows as the kernels take together.
pub(super) const MOST: usize = 15;
/// How many of the last tokens must have stood together before; the longer first.
const MATCHES: [usize; 2] = [4, 2];
/// How far back is looked.
const BACK: usize = 8_192;
/// Steps without a guess after several in vain, at most: what guessing may cost where nothing repeats is bounded by this.
const PAUSE: u32 = 32;
/// The chance that a guess is right, before anything is known of a text.
const AT_FIRST: f64 = 0.6;
/// How much one guess that was right or wrong changes that.
const WEIGHT: f64 = 1.0 / 8.0;

/// Guesses for one text.
pub(super) struct Guesser {
    /// The chance that a guess is right if those before it were.
    chance: f64,
    /// Steps still to be left without a guess.
    pause: u32,
    /// The pause after the next guess in vain.
    next_pause: u32,
}

impl Default for Guesser {
    fn default() -> Self {
        Self { chance: AT_FIRST, pause: 0, next_pause: 1 }
    }
}

impl Guesser {
    /// How many tokens are worth guessing in the next step, where reading one more costs as much time as `worth` tokens take
    /// at present: those whose chance is higher. Now and then one that is not: texts change.
    pub(super) fn wish(&mut self, worth: f64) -> usize {
        if self.pause > 0 {
            self.pause = self.pause.saturating_sub(1);
            return 0;
        }
        let mut chance = self.chance;
        let mut wish = 0;
        while wish < MOST && chance > worth {
            (wish, chance) = (wish.saturating_add(1), chance * self.chance);
        }
        if wish == 0 {
            self.rest();
        }
        wish.max(1)
    }

    /// At most so many tokens that may follow the known ones.
    pub(super) fn guess(&self, known: &[u32], most: usize) -> Vec<u32> {
        let known = known.get(known.len().saturating_sub(BACK)..).unwrap_or_default();
        let found = MATCHES.iter().find_map(|count| following(known, *count)).unwrap_or_default();
        found.iter().take(most).copied().collect()
    }

    /// Takes note of how many of the last guesses were right.
    pub(super) fn learn(&mut self, guessed: usize, right: usize) {
        if guessed == 0 {
            return;
        }
        for _ in 0..right {
            self.chance += (1.0 - self.chance) * WEIGHT;
        }
        if right < guessed {
            self.chance -= self.chance * WEIGHT;
        }
        if right == 0 {
            self.rest();
        } else {
            self.next_pause = 1;
        }
    }

    fn rest(&mut self) {
        self.pause = self.next_pause;
        self.next_pause = self.next_pause.saturating_mul(2).min(PAUSE);
    }
}

/// What followed the last `count` tokens where they stood before, the latest place of those.
fn following(known: &[u32], count: usize) -> Option<&[u32]> {
    let (before, last) = known.split_at_checked(known.len().checked_sub(count)?)?;
    // A window may reach into the last tokens, but must not be them.
    let windows = known.get(..known.len().saturating_sub(1))?.windows(count);
    let (at, _) = windows.enumerate().take(before.len()).rfind(|(_, window)| *window == last)?;
    known.get(at.saturating_add(count)..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_there_before_is_guessed_the_latest_first() {
        let guesser = Guesser::default();
        assert_eq!(guesser.guess(&[1, 2, 3, 4, 9, 1, 2, 3, 5, 1, 2], 7), [3, 5, 1, 2]);
        assert_eq!(guesser.guess(&[1, 2, 3, 4, 7, 1, 2, 3, 4], 2), [7, 1]);
        assert_eq!(guesser.guess(&[5, 5, 5, 5], 7), [5], "a window may overlap the last tokens");
        for none in [&[][..], &[1], &[1, 2], &[1, 2, 3]] {
            assert!(guesser.guess(none, 7).is_empty(), "{none:?}");
        }
        assert!(guesser.guess(&[1, 2, 1, 2], 0).is_empty());
    }

    #[test]
    fn guesses_in_vain_become_rare_and_right_ones_longer() {
        let mut guesser = Guesser::default();
        let cheap = guesser.wish(0.05);
        let dear = guesser.wish(0.5);
        assert!(dear >= 1 && dear < cheap && cheap < MOST, "{dear} and {cheap}");
        (0..5).for_each(|_| guesser.learn(5, 5));
        assert_eq!(guesser.wish(0.05), MOST);
        let mut guesses = 0;
        for _ in 0..1_000 {
            let guessed = guesser.wish(0.05);
            guesses += guessed;
            guesser.learn(guessed, 0);
        }
        assert!(guesses < 150, "{guesses}");
        // It is not given up for ever.
        (0..200).for_each(|_| {
            let guessed = guesser.wish(0.05);
            guesser.learn(guessed, guessed);
        });
        assert_eq!(guesser.wish(0.05), MOST);
    }

    #[test]
    fn what_costs_more_than_it_may_bring_is_only_tried_now_and_then() {
        let mut guesser = Guesser::default();
        let wished: usize = (0..330).map(|_| guesser.wish(0.9)).sum();
        assert!((10..20).contains(&wished), "{wished}");
    }
}
