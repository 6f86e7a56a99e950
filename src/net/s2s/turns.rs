//! Turns to connect: so many attempts are under way at once, and nobody has all of them. A server
//! that swallows every packet keeps its attempt for a minute and more, and one person may write to
//! thousands of them.
//!
//! Whoever asks, and each family of domains that is called, has at most a part of what is left
//! when it gets its next turn: a few who take all that they may leave one for somebody who has none,
//! and however many they are, they have no more than the others once their first attempts have ended.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::router::Asker;

/// Those at the front of one asker's row that are looked at: the others wait behind them.
const LOOKED_AT_MAX: usize = 64;

/// Those that wait on behalf of one asker: beyond it they need not even wait.
const WAITING_MAX: usize = 1_000;

/// The turns of one kind.
#[derive(Debug)]
pub struct Turns {
    count_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    families: HashMap<Asker, usize>,
    rows: HashMap<Asker, Row>,
    /// The askers for whom something waits, in the order in which they have their turns.
    order: VecDeque<Asker>,
    waiting: HashMap<u64, Waiter>,
    number: u64,
}

/// What is done and waits on behalf of one asker.
#[derive(Debug, Default)]
struct Row {
    taken: usize,
    waiting: BTreeSet<u64>,
}

#[derive(Debug)]
struct Waiter {
    family: Asker,
    askers: Vec<Asker>,
    /// It has the turn, on this one's behalf.
    granted: Option<Asker>,
    waker: Option<Waker>,
}

/// A place in the rows of those on whose behalf somebody waits.
#[derive(Debug)]
pub struct Place<'a> {
    turns: &'a Turns,
    number: u64,
}

/// A turn; the next one has it when this is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    family: Asker,
    asker: Asker,
}

impl Turns {
    /// So many at once.
    pub fn new(count_max: usize) -> Turns {
        Turns {
            count_max,
            state: Mutex::default(),
        }
    }

    /// Waits from now on to call somebody of this family, on behalf of any of these. `None` when
    /// too many wait on behalf of each of them already.
    pub fn enter(&self, family: Asker, askers: &[Asker]) -> Option<Place<'_>> {
        let mut state = self.state();
        state.number += 1;
        let number = state.number;
        let waiter = Waiter {
            family,
            askers: Vec::new(),
            granted: None,
            waker: None,
        };
        state.waiting.insert(number, waiter);
        state.add(number, askers);
        if !state.has_row(number) {
            state.waiting.remove(&number);
            return None;
        }
        state.grant(self.count_max);
        Some(Place {
            turns: self,
            number,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Place<'a> {
    /// On behalf of these, too.
    pub fn add(&self, askers: &[Asker]) {
        let mut state = self.turns.state();
        state.add(self.number, askers);
        state.grant(self.turns.count_max);
    }

    /// Waits for the turn. May be called again when it was left.
    pub async fn turn(&self) -> Turn<'a> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Turn<'a>> {
        let mut state = self.turns.state();
        let Some(waiter) = state.waiting.get_mut(&self.number) else {
            debug_assert!(false, "it has had its turn");
            return Poll::Pending;
        };
        let Some(asker) = waiter.granted else {
            waiter.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let family = waiter.family;
        state.waiting.remove(&self.number);
        Poll::Ready(Turn {
            turns: self.turns,
            family,
            asker,
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        let Some(waiter) = state.leave(self.number) else {
            return;
        };
        if let Some(asker) = waiter.granted {
            state.give_back(waiter.family, asker);
            state.grant(self.turns.count_max);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.give_back(self.family, self.asker);
        state.grant(self.turns.count_max);
    }
}

/// An asker has no more than a quarter of what is left.
fn may_ask(taken: usize, left: usize) -> bool {
    taken < left.div_ceil(4)
}

/// A family has no more than an eighth: so it never is all that an asker may have.
fn may_be_called(taken: usize, left: usize) -> bool {
    taken < left.div_ceil(8)
}

impl State {
    fn add(&mut self, number: u64, askers: &[Asker]) {
        let Some(waiter) = self.waiting.get_mut(&number) else {
            return;
        };
        if waiter.granted.is_some() {
            return;
        }
        for asker in askers {
            if waiter.askers.contains(asker) {
                continue;
            }
            let row = self.rows.entry(*asker).or_default();
            if row.waiting.len() >= WAITING_MAX {
                continue;
            }
            waiter.askers.push(*asker);
            if row.waiting.is_empty() {
                self.order.push_back(*asker);
            }
            row.waiting.insert(number);
        }
    }

    fn has_row(&self, number: u64) -> bool {
        let waiter = self.waiting.get(&number);
        waiter.is_some_and(|waiter| !waiter.askers.is_empty())
    }

    /// Turns for all who may have one now.
    fn grant(&mut self, count_max: usize) {
        while let Some((number, asker)) = self.next(count_max - self.taken) {
            self.take_from_rows(number);
            let Some(waiter) = self.waiting.get_mut(&number) else {
                debug_assert!(false, "whoever stands in a row waits");
                return;
            };
            waiter.granted = Some(asker);
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
            self.taken += 1;
            *self.families.entry(waiter.family).or_default() += 1;
            self.rows.entry(asker).or_default().taken += 1;
        }
    }

    /// Who is next, and on whose behalf. One asker after the other is looked at.
    fn next(&mut self, left: usize) -> Option<(u64, Asker)> {
        if left == 0 {
            return None;
        }
        for _ in 0..self.order.len() {
            let asker = *self.order.front()?;
            self.order.rotate_left(1);
            let Some(row) = self.rows.get(&asker) else {
                continue;
            };
            if !may_ask(row.taken, left) {
                continue;
            }
            let next = row.waiting.iter().take(LOOKED_AT_MAX).find(|number| {
                let family = self.waiting.get(number).map(|waiter| waiter.family);
                let taken = family.and_then(|family| self.families.get(&family));
                may_be_called(taken.copied().unwrap_or(0), left)
            });
            if let Some(number) = next {
                return Some((*number, asker));
            }
        }
        None
    }

    /// It waits no more; what it was.
    fn leave(&mut self, number: u64) -> Option<Waiter> {
        self.take_from_rows(number);
        self.waiting.remove(&number)
    }

    fn take_from_rows(&mut self, number: u64) {
        let Some(waiter) = self.waiting.get(&number) else {
            return;
        };
        for asker in waiter.askers.clone() {
            let Some(row) = self.rows.get_mut(&asker) else {
                continue;
            };
            if row.waiting.remove(&number) && row.waiting.is_empty() {
                self.order.retain(|other| *other != asker);
            }
            self.forget(asker);
        }
    }

    fn give_back(&mut self, family: Asker, asker: Asker) {
        self.taken -= 1;
        if let Some(taken) = self.families.get_mut(&family) {
            *taken -= 1;
            if *taken == 0 {
                self.families.remove(&family);
            }
        }
        if let Some(row) = self.rows.get_mut(&asker) {
            row.taken -= 1;
        }
        self.forget(asker);
    }

    fn forget(&mut self, asker: Asker) {
        let is_empty = |row: &Row| row.taken == 0 && row.waiting.is_empty();
        if self.rows.get(&asker).is_some_and(is_empty) {
            self.rows.remove(&asker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Askers;

    fn enter<'a>(turns: &'a Turns, family: Asker, askers: &[Asker]) -> Place<'a> {
        turns.enter(family, askers).expect("few wait")
    }

    fn has_turn(place: &Place<'_>) -> bool {
        let state = place.turns.state();
        state.waiting[&place.number].granted.is_some()
    }

    fn turn<'a>(place: &Place<'a>) -> Turn<'a> {
        match place.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => turn,
            Poll::Pending => panic!("it is not its turn"),
        }
    }

    #[test]
    fn nobody_has_all_turns_and_the_next_one_has_one() {
        let (turns, askers) = (Turns::new(128), Askers::default());
        let mut all = Vec::new();
        let mut families = 0;
        for asker in 0..15 {
            let asker = askers.named(&format!("asker {asker}"));
            let places: Vec<_> = (0..200)
                .map(|_| {
                    families += 1;
                    enter(
                        &turns,
                        askers.named(&format!("family {families}")),
                        &[asker],
                    )
                })
                .collect();
            let granted = places.iter().filter(|place| has_turn(place)).count();
            assert!((1..=26).contains(&granted), "{granted}");
            all.extend(places);
        }
        assert!(turns.state().taken < 128);
        drop(all);
        let state = turns.state();
        assert_eq!(state.taken, 0);
        assert!(state.rows.is_empty() && state.families.is_empty() && state.order.is_empty());
    }

    #[test]
    fn one_family_is_not_all_that_an_asker_calls() {
        let (turns, askers) = (Turns::new(128), Askers::default());
        let (romeo, evil) = (askers.named("romeo"), askers.family_of("evil.test"));
        let called: Vec<_> = (0..50).map(|_| enter(&turns, evil, &[romeo])).collect();
        let granted = called.iter().filter(|place| has_turn(place)).count();
        assert!(granted < 20, "{granted}");
        let good = enter(&turns, askers.family_of("good.test"), &[romeo]);
        assert!(has_turn(&good));
        drop(called);
    }

    #[test]
    fn whoever_waits_on_behalf_of_another_has_their_turn() {
        let (turns, askers) = (Turns::new(16), Askers::default());
        let (eve, romeo) = (askers.named("eve"), askers.named("romeo"));
        let family = |number: u32| askers.named(&format!("family {number}"));
        let called: Vec<_> = (0..30)
            .map(|number| enter(&turns, family(number), &[eve]))
            .collect();
        let last = called.last().expect("there are some");
        assert!(!has_turn(last));
        last.add(&[romeo]);
        assert!(has_turn(last));
    }

    #[test]
    fn a_turn_that_ends_is_the_next_ones() {
        let (turns, askers) = (Turns::new(1), Askers::default());
        let (eve, romeo) = (askers.named("eve"), askers.named("romeo"));
        let first = enter(&turns, askers.named("a"), &[eve]);
        let second = enter(&turns, askers.named("b"), &[eve]);
        let third = enter(&turns, askers.named("c"), &[romeo]);
        let left = enter(&turns, askers.named("d"), &[romeo]);
        let turn_of_first = turn(&first);
        assert!(!has_turn(&second) && !has_turn(&third));
        drop(left);
        drop(turn_of_first);
        assert_ne!(has_turn(&second), has_turn(&third), "one of both");
        // Who goes without having taken it leaves it to the next.
        let (gone, stays) = match has_turn(&second) {
            true => (second, third),
            false => (third, second),
        };
        drop(gone);
        drop(turn(&stays));
        assert_eq!(turns.state().taken, 0);
    }

    #[test]
    fn those_who_wait_for_one_are_so_many_at_most() {
        let (turns, askers) = (Turns::new(1), Askers::default());
        let (family, eve) = (askers.named("family"), askers.named("eve"));
        let mut places: Vec<_> = std::iter::from_fn(|| turns.enter(family, &[eve]))
            .take(2 * WAITING_MAX)
            .collect();
        assert_eq!(places.len(), WAITING_MAX + 1, "one of them has its turn");
        assert!(turns.enter(family, &[eve, askers.named("romeo")]).is_some());
        places.truncate(WAITING_MAX / 2);
        assert!(turns.enter(family, &[eve]).is_some());
        drop(places);
        assert!(turns.state().rows.is_empty() && turns.state().waiting.is_empty());
    }
}
