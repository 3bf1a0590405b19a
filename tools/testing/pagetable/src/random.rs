// SPDX-License-Identifier: GPL-2.0

//! Millions of walks against the model.

use rand::Rng;

use crate::invent::worlds;
use crate::seen::{Collect, Shown};

/// The number of questions about one world.
const QUESTIONS: usize = 100;

/// The walk shows the leaves of the model, in order, each once and as a whole, up to the first
/// address at which the access is not permitted.
#[test]
fn the_walk_is_the_model() {
    let (mut walks, mut whole, mut leaves, mut pages) = (0u64, 0u64, 0u64, 0u64);
    worlds(1, |world, rng| {
        for _ in 0..QUESTIONS {
            let question = world.question(rng);
            let mut walked = Collect::all();
            question.walk(&world.memory, world.root, &mut walked);
            let expected = question.model(&world.memory, world.root);
            if walked.shown != expected {
                fail(&world.plan, &question, &walked.shown, &expected);
            }
            let mapped: u64 = expected.iter().map(|leaf| leaf.pages).sum();
            walks += 1;
            leaves += expected.len() as u64;
            pages += mapped;
            whole += u64::from(mapped == (question.end - question.start) / 4096);
        }
    });
    println!("{walks} walks, {whole} to their end; {leaves} leaves, {pages} pages");
    // The worlds must not have so many holes that nothing is compared.
    assert!(walks < 100 || (whole > walks / 8 && leaves > walks && pages > leaves));
}

/// A visitor that ends the walk gets no more leaves, and the same leaves until then.
#[test]
fn the_walk_ends_when_told() {
    worlds(8, |world, rng| {
        for _ in 0..QUESTIONS {
            let question = world.question(rng);
            let mut expected = question.model(&world.memory, world.root);
            let limit = rng.random_range(1..=expected.len() + 1);
            let mut walked = Collect {
                limit,
                ..Collect::all()
            };
            question.walk(&world.memory, world.root, &mut walked);
            expected.truncate(limit);
            if walked.shown != expected {
                fail(&world.plan, &question, &walked.shown, &expected);
            }
        }
    });
}

/// The walk for one page shows the same as the walk for more pages does of that page.
#[test]
fn one_page() {
    let mut mapped = 0u64;
    worlds(8, |world, rng| {
        for _ in 0..QUESTIONS {
            let mut question = world.question(rng);
            question.end = question.start + 4096;
            let shown = question.walk_page(&world.memory, world.root);
            let expected = question.model(&world.memory, world.root);
            if shown != expected {
                fail(&world.plan, &question, &shown, &expected);
            }
            mapped += shown.len() as u64;
        }
    });
    println!("{mapped} pages");
}

fn fail(
    plan: &impl std::fmt::Debug,
    question: &impl std::fmt::Debug,
    walked: &[Shown],
    expected: &[Shown],
) -> ! {
    let at = walked
        .iter()
        .zip(expected)
        .position(|(a, b)| a != b)
        .unwrap_or(walked.len().min(expected.len()));
    panic!(
        "the walk showed {} leaves, the model {}; number {at} is {:?} and should be {:?}\n\
         {question:x?}\n{plan:x?}",
        walked.len(),
        expected.len(),
        walked.get(at),
        expected.get(at),
    )
}
