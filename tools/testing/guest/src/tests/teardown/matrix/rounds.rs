// SPDX-License-Identifier: GPL-2.0

//! Rounds of a soak: a place, one to three users of it at once, and some removals, one after the other,
//! all drawn from a seed. Each cell is judged as a cell of the matrix is.

use super::cell;
use super::lane::Lane;
use super::place::{Ground, Place};
use super::removal::Removal;
use super::user::User;
use super::{expected, Outcome};
use crate::tests::prelude::*;

/// Largest numbers of users at once, and of removals in a round.
const USERS: usize = 3;
const REMOVALS: usize = 4;

/// What was drawn for a round.
#[derive(Debug, PartialEq, Eq)]
pub struct Round {
    place: Place,
    users: Vec<User>,
    removals: Vec<Removal>,
}

impl Round {
    /// Draws a round. The same seed, lane and number give the same round.
    pub fn draw(lane: &Lane, seed: u64, number: u64) -> Self {
        // Far apart, so that no two rounds have neighbouring seeds of the generator.
        let stream = if lane.is_first() { 0 } else { 1 << 32 };
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(stream + number));
        // The first numbers of neighbouring seeds are alike.
        for _ in 0..8 {
            random.next();
        }
        let places = Place::ALL.into_iter().filter(|p| p.is_in(lane));
        let place = pick(&places.collect::<Vec<_>>(), &mut random);
        let fit: Vec<User> = (User::ALL.into_iter())
            .filter(|user| user.is_at(place) && user.is_in(lane))
            .collect();
        let mut users = Vec::new();
        for _ in 0..=random.below(USERS) {
            let user = pick(&fit, &mut random);
            if !users.contains(&user) {
                users.push(user);
            }
        }
        let fit: Vec<Removal> = (Removal::ALL.into_iter())
            .filter(|removal| removal.is_in(lane) && expected(place, &users, *removal).is_some())
            .collect();
        let removals = (0..=random.below(REMOVALS))
            .map(|_| pick(&fit, &mut random))
            .collect();
        Self {
            place,
            users,
            removals,
        }
    }

    pub fn name(&self) -> String {
        let users: Vec<&str> = self.users.iter().map(|user| user.name()).collect();
        format!("{}::{}", self.place.name(), users.join("+"))
    }

    /// Runs it; returns what became of each removal.
    pub fn run(&self, lane: &Lane) -> Result<String> {
        let mut ground = Ground::create(self.place, self.users.contains(&User::Dm), lane)?;
        let mut done = Vec::new();
        for removal in &self.removals {
            let outcome = expected(self.place, &self.users, *removal).unwrap_or(Outcome::Ends);
            cell::check(&mut ground, &self.users, *removal, outcome).with_context(|| {
                let before = done.join(", ");
                format!("[{before}] {}, which {}", removal.name(), outcome.name())
            })?;
            done.push(format!("{} {}", removal.name(), outcome.name()));
        }
        ground.finish()?;
        Ok(done.join(", "))
    }
}

fn pick<T: Copy>(all: &[T], random: &mut Random) -> T {
    all[random.below(all.len())]
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn a_seed_repeats_its_rounds_and_draws_everything() {
        let draw = |seed, number| Round::draw(&Lane::ALONE, seed, number);
        assert_eq!(draw(1, 7), draw(1, 7));
        let rounds: Vec<Round> = (0..400).map(|number| draw(1, number)).collect();
        for place in Place::ALL {
            assert!(rounds.iter().any(|round| round.place == place), "{place:?}");
        }
        for user in User::ALL {
            let with = rounds.iter().filter(|round| round.users.contains(&user));
            assert!(with.count() > 2, "{user:?}");
        }
        for removal in Removal::ALL {
            assert!(rounds.iter().any(|round| round.removals.contains(&removal)));
        }
        for count in 1..=USERS {
            assert!(rounds.iter().any(|round| round.users.len() == count));
        }
        let other: Vec<Round> = (0..400).map(|number| draw(2, number)).collect();
        assert!(rounds != other);
    }
}
