// SPDX-License-Identifier: GPL-2.0

//! The matrix of removals under use: each way to take memory away, while each kind of user has it, at
//! each kind of place.
//!
//! A test is a row, a place and a user, and goes through the removals. A cell has one of three outcomes,
//! which [`expected`] knows beforehand:
//!
//! * the removal is refused with a message: the use goes on, and finds its bytes;
//! * the removal ends: each later access of the user fails;
//! * the removal waits for pinned pages, and ends soon after they were released.
//!
//! In each case other programs go on meanwhile, no page stays pinned, and the bytes that were synced
//! are there when the memory is enabled again. A reset of the machine is in `reboot.rs`.

mod cell;
mod child;
mod hold;
mod lane;
mod place;
mod removal;
mod rounds;
mod user;

pub use self::lane::Lane;
pub use self::rounds::Round;

use self::place::{Ground, Place};
use self::removal::Removal;
use self::user::User;
use crate::tests::prelude::*;

/// What becomes of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Refused,
    Ends,
    Waits,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Refused => "refused",
            Outcome::Ends => "ends",
            Outcome::Waits => "waits",
        }
    }
}

/// Returns the outcome of a cell with one user or several; none if there is no such cell.
fn expected(place: Place, users: &[User], removal: Removal) -> Option<Outcome> {
    if removal == Removal::Failure && place == Place::Raw {
        // No process has a page of it.
        return None;
    }
    let refused = if removal.checks_use() {
        // ndctl opens the disk exclusively; swap has the loop device, which has the disk open.
        place.kind().is_some() || (place == Place::Raw && users.contains(&User::Dm))
    } else {
        // An open disk, or an open device, holds its module.
        removal == Removal::Rmmod && !(place.is_devdax() && users.iter().all(|user| user.closes()))
    };
    Some(match (refused, users.iter().any(|user| user.pins())) {
        (true, _) => Outcome::Refused,
        (false, true) => Outcome::Waits,
        (false, false) => Outcome::Ends,
    })
}

declare! { rows }
fn rows() -> Vec<Test> {
    const DOC: &str =
        "memory that is taken away while it is used like this can be reached afterwards, loses bytes that were \
         synced, is taken away while its pages are pinned, or is never taken away; a request that should be \
         refused is not; or other programs hang";
    let mut tests = Vec::new();
    for place in Place::ALL {
        let users = User::ALL.into_iter().filter(|user| user.is_at(place));
        for (number, user) in users.enumerate() {
            let name = format!("teardown::matrix::{}::{}", place.name(), user.name());
            tests.push(Test::new(name, 240, DOC, move || row(place, user, number)));
        }
    }
    mark_essential(
        tests,
        &["ext4::pipe", "xfs-reflink::dirty", "devdax-2M::fixed"],
    )
}

/// Returns the removals of a row: all if all tests were requested, otherwise the first and two others,
/// so that three rows have all of them.
fn removals(number: usize) -> Vec<Removal> {
    if runner::thorough() {
        return Removal::ALL.to_vec();
    }
    let (first, others) = (Removal::ALL[0], &Removal::ALL[1..]);
    let other = |n: usize| others[(2 * number + n) % others.len()];
    vec![first, other(0), other(1)]
}

fn row(place: Place, user: User, number: usize) -> Result<String> {
    if live::ask()?.registry.implementation == Language::C {
        skip!("the registry is in C, which frees pages that are pinned, so later tests would fail");
    }
    let mut ground = Ground::create(place, user == User::Dm, &Lane::ALONE)?;
    let mut row = Vec::new();
    for removal in removals(number) {
        let name = removal.name();
        match expected(place, &[user], removal) {
            None => row.push(format!("{name} -")),
            Some(outcome) => {
                cell::check(&mut ground, &[user], removal, outcome)
                    .with_context(|| format!("{name}, which {}", outcome.name()))?;
                row.push(format!("{name} {}", outcome.name()));
            }
        }
    }
    ground.finish()?;
    Ok(row.join(", "))
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn each_removal_is_tried_at_each_place() {
        for place in Place::ALL {
            let users = User::ALL.into_iter().filter(|user| user.is_at(place));
            let tried: Vec<Removal> = (0..users.count()).flat_map(removals).collect();
            assert!(Removal::ALL.iter().all(|removal| tried.contains(removal)));
        }
    }
}
