//! Records that this node held before it was restarted, taken back a little at a time: each is judged anew, which takes signatures, and
//! the swarm must not stand still for tens of thousands of them. One that a peer brings a record for has its turn at once, so that no
//! older one is taken meanwhile.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
    vec,
};

use crate::{
    handle::{HeldRecord, Reply},
    records::Shelf,
};

/// Time spent on it in each tick, of 200 ms: longer holds up packets, shorter leaves a restarted node without what it held.
const A_TURN: Duration = Duration::from_millis(20);

struct Job {
    left: vec::IntoIter<[u8; 32]>,
    taken: usize,
    reply: Reply<usize>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Restoring {
    jobs: VecDeque<Job>,
}

impl Restoring {
    /// `reply` is told at how many of their keys there is a record, once all were judged.
    pub(crate) fn add(&mut self, records: Vec<HeldRecord>, shelf: &mut Shelf, reply: Reply<usize>) {
        let keys: Vec<_> = records.iter().map(|held| held.key).collect();
        records.into_iter().for_each(|held| shelf.await_turn(held));
        self.jobs.push_back(Job { left: keys.into_iter(), taken: 0, reply });
    }

    /// One turn.
    pub(crate) fn turn(&mut self, shelf: &mut Shelf) {
        let begin = Instant::now();
        while let Some(job) = self.jobs.front_mut() {
            for key in job.left.by_ref() {
                job.taken += usize::from(shelf.restore(&key));
                if begin.elapsed() >= A_TURN {
                    return;
                }
            }
            if let Some(Job { taken, reply, .. }) = self.jobs.pop_front() {
                drop(reply.send(Ok(taken)));
            }
        }
    }
}
