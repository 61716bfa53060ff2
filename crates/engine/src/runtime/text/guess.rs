//! Guessing the next tokens from what stood there before (Saxena, "Prompt Lookup Decoding", 2023): where a text repeats
//! what it has said or was given, several tokens come out of one pass. A guess only decides what is read in advance: every
//! token is chosen from its own scores as ever, so nothing a guesser does changes an answer.

/// Tokens guessed at once, at most: a pass over eight rows costs little more than one over one row.
pub(super) const MOST: usize = 7;
/// How many of the last tokens must have stood together before; the longer first.
const MATCHES: [usize; 2] = [4, 2];
/// How far back is looked.
const BACK: usize = 8_192;
/// Steps without a guess after several in vain, at most: what guessing may cost where nothing repeats is bounded by this.
const PAUSE: u32 = 32;

/// Guesses for one text.
pub(super) struct Guesser {
    /// Tokens to guess next time.
    reach: usize,
    /// Steps still to be left without a guess.
    pause: u32,
    /// The pause after the next guess in vain.
    next_pause: u32,
}

impl Default for Guesser {
    fn default() -> Self {
        Self { reach: MOST / 2, pause: 0, next_pause: 1 }
    }
}

impl Guesser {
    /// At most so many tokens that may follow the known ones.
    pub(super) fn guess(&mut self, known: &[u32], most: usize) -> Vec<u32> {
        if self.pause > 0 {
            self.pause = self.pause.saturating_sub(1);
            return Vec::new();
        }
        let known = known.get(known.len().saturating_sub(BACK)..).unwrap_or_default();
        let found = MATCHES.iter().find_map(|count| following(known, *count)).unwrap_or_default();
        found.iter().take(most.min(self.reach)).copied().collect()
    }

    /// Takes note of how many of the last guesses were right.
    pub(super) fn learn(&mut self, guessed: usize, right: usize) {
        if guessed == 0 {
            return;
        }
        if right == 0 {
            self.pause = self.next_pause;
            self.next_pause = self.next_pause.saturating_mul(2).min(PAUSE);
            self.reach = 2;
        } else {
            self.next_pause = 1;
            self.reach = if right == guessed { MOST } else { right.saturating_add(1) };
        }
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
        let mut guesser = Guesser::default();
        assert_eq!(guesser.guess(&[1, 2, 3, 4, 9, 1, 2, 3, 5, 1, 2], 7), [3, 5, 1]);
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
        let known = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2];
        guesser.learn(3, 3);
        assert_eq!(guesser.guess(&known, MOST).len(), MOST);
        let mut guesses = 0;
        for _ in 0..1_000 {
            let guessed = guesser.guess(&known, MOST).len();
            guesses += guessed;
            guesser.learn(guessed, 0);
        }
        assert!(guesses < 90, "{guesses}");
    }
}
