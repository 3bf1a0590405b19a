// SPDX-License-Identifier: GPL-2.0

use super::facts::Mode;
use super::*;
use crate::place::Device;
use crate::ranges::HUGE;
use crate::superblock::Filesystem;
use std::os::unix::fs::symlink;

fn ext4() -> Filesystem {
    Filesystem {
        fstype: "ext4".into(),
        block_size: Some(4096),
        stripe: Some(HUGE),
        ..Filesystem::default()
    }
}

fn facts(filesystem: Filesystem) -> Facts {
    Facts {
        name: "pmem0".into(),
        page: 4096,
        fs_dax: Some(true),
        huge_pages: true,
        mode: Mode::Pfn {
            claim: "pfn0.1".into(),
            map: "dev".into(),
        },
        namespace: Some("namespace0.0".into()),
        dax: true,
        read_only: false,
        region_read_only: false,
        sector: 512,
        partition: None,
        place: Ok(Device {
            name: "pmem0".into(),
            start: Some(5 * HUGE),
            partition: 0,
        }),
        bad: Vec::new(),
        partitions: Vec::new(),
        holders: Vec::new(),
        release: (6, 12),
        persistence: Some("cpu_cache".into()),
        asynchronous: false,
        content: Content::Filesystem(filesystem),
        mounts: Vec::new(),
        dax_holder: None,
    }
}

/// Returns the checks that are not ok.
fn wrong(facts: &Facts) -> Vec<(&'static str, State)> {
    let all = checks(facts).into_iter();
    all.map(|c| (c.check, c.state))
        .filter(|(_, state)| *state != State::Ok)
        .collect()
}

#[test]
fn a_fit_one() {
    assert_eq!(wrong(&facts(ext4())), []);
    assert!(Report::from(&facts(ext4())).fit);
}

#[test]
fn each_obstacle_is_told() {
    use State::Missing;
    let with = |change: fn(&mut Filesystem)| {
        let mut filesystem = ext4();
        change(&mut filesystem);
        wrong(&facts(filesystem))
    };
    assert_eq!(
        with(|f| f.block_size = Some(1024)),
        [("block size", Missing)]
    );
    assert_eq!(with(|f| f.inline_data = true), [("inline_data", Missing)]);
    assert_eq!(with(|f| f.journal_data = true), [("journal", Missing)]);
    assert_eq!(
        with(|f| f.fstype = "btrfs".into()),
        [("filesystem", Missing)]
    );
    let mut old = facts(ext4());
    old.fs_dax = Some(false);
    assert_eq!(wrong(&old), [("kernel", Missing)]);
    let mut raw = facts(ext4());
    (raw.mode, raw.dax) = (Mode::Raw, false);
    assert_eq!(wrong(&raw), [("mode", Missing), ("queue", Missing)]);
    let text = Report::from(&raw).to_string();
    assert!(
        text.starts_with("pmem0: not fit for DAX, because of: mode, queue"),
        "{text}"
    );
    assert!(text.contains("-e namespace0.0 -m fsdax"), "{text}");
}

#[test]
fn partitions() {
    let mut part = facts(Filesystem {
        fstype: "xfs".into(),
        reflink: true,
        rmapbt: true,
        ..ext4()
    });
    assert_eq!(wrong(&part), []);
    part.release = (5, 19);
    assert_eq!(wrong(&part), [("reflink", State::Missing)]);
    part.release = (6, 12);
    part.dax_holder = Some(("pmem0p2".into(), "/mnt/b".into()));
    assert_eq!(wrong(&part), [("holders", State::Missing)]);
    part.dax_holder = None;
    part.partition = Some((HUGE, HUGE));
    assert_eq!(wrong(&part), [("reflink", State::Missing)]);
    part.content = Content::Empty;
    let advice = checks(&part)
        .pop()
        .and_then(|c| c.advice)
        .unwrap_or_default();
    assert!(advice.contains("reflink=0"), "{advice}");
    part.partition = Some((63 * 512, HUGE));
    assert_eq!(wrong(&part)[0], ("partition", State::Missing));
}

#[test]
fn what_costs_huge_pages_is_a_warning() {
    use State::Warning;
    let mut facts = facts(Filesystem {
        stripe: Some(0),
        excluding: vec!["encrypt"],
        ..ext4()
    });
    facts.place = Ok(Device {
        name: "pmem0".into(),
        start: Some(5 * HUGE + 4096),
        partition: 0,
    });
    assert_eq!(
        wrong(&facts),
        [
            ("alignment", Warning),
            ("features", Warning),
            ("layout", Warning)
        ]
    );
    assert!(Report::from(&facts).fit);
}

#[test]
fn what_is_above() {
    let mut disk = facts(ext4());
    disk.partitions = vec![
        ("pmem0p1".into(), 5 * HUGE),
        ("pmem0p2".into(), 7 * HUGE + 4096),
    ];
    disk.holders = vec!["dm-0".into()];
    disk.bad = vec![(8, 1), (64, 2)];
    assert_eq!(
        wrong(&disk),
        [
            ("media", State::Warning),
            ("partitions", State::Warning),
            ("holders", State::Warning)
        ]
    );
    let text = Report::from(&disk).to_string();
    for words in [
        "2 bad ranges of 3 sectors of 512 bytes, the first at sector 8",
        "pmem0p2 begins at 0xe01000, 0x1000 after",
        "dm-0 uses it",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn mounts_without_dax() {
    let state = |options: &str| {
        let line = format!("40 22 259:0 / /mnt rw - ext4 /dev/pmem0 {options}\n");
        let mut facts = facts(ext4());
        facts.mounts = mounts::parse(&line);
        wrong(&facts)
    };
    assert_eq!(state("rw,dax"), []);
    assert_eq!(state("rw,dax=always"), []);
    assert_eq!(state("rw,dax=never"), [("mount", State::Warning)]);
    assert_eq!(state("rw"), [("mount", State::Warning)]);
}

#[test]
fn json() -> Result<()> {
    let mut filesystem = ext4();
    filesystem.block_size = Some(1024);
    let json = serde_json::to_value(Report::from(&facts(filesystem)))?;
    assert_eq!(json["fit"], false);
    let checks = json["checks"].as_array().context("no checks")?;
    let block = checks.iter().find(|c| c["check"] == "block size");
    let block = block.context("no block size")?;
    assert_eq!(block["state"], "missing");
    let advice = block["advice"].as_str().unwrap_or_default();
    assert!(advice.starts_with("mkfs.ext4 -b 4096"), "{advice}");
    Ok(())
}

#[test]
fn sysfs() -> Result<()> {
    let sys = std::env::temp_dir().join(format!("daxstat-device-{}", std::process::id()));
    let region = sys.join("devices/ndbus0/region0");
    let disk = region.join("pfn0.1/block/pmem0");
    fs::create_dir_all(disk.join("queue"))?;
    fs::create_dir_all(disk.join("pmem0p1"))?;
    fs::create_dir_all(sys.join("dev/block"))?;
    fs::create_dir_all(sys.join("bus/nd"))?;
    for (name, text) in [
        ("read_only", "0"),
        ("persistence_domain", "memory_controller"),
        ("pfn0.1/mode", "ram"),
        ("pfn0.1/namespace", "namespace0.0"),
        ("pfn0.1/resource", "0x140200000"),
        ("pfn0.1/block/pmem0/ro", "0"),
        ("pfn0.1/block/pmem0/badblocks", "8 1\n64 2"),
        ("pfn0.1/block/pmem0/queue/dax", "1"),
        ("pfn0.1/block/pmem0/queue/logical_block_size", "4096"),
        ("pfn0.1/block/pmem0/pmem0p1/partition", "1"),
        ("pfn0.1/block/pmem0/pmem0p1/start", "2048"),
        ("pfn0.1/block/pmem0/pmem0p1/size", "8192"),
        ("pfn0.1/block/pmem0/pmem0p1/ro", "1"),
    ] {
        fs::write(region.join(name), format!("{text}\n"))?;
    }
    symlink("../..", disk.join("device"))?;
    symlink(sys.join("bus/nd"), region.join("pfn0.1/subsystem"))?;
    symlink(disk.join("pmem0p1"), sys.join("dev/block/259:1"))?;
    let facts = Facts::collect(&sys, "259:1", Content::Empty, Vec::new());
    fs::remove_dir_all(&sys)?;
    let facts = facts?;
    assert_eq!(facts.name, "pmem0p1");
    assert_eq!(
        facts.mode,
        Mode::Pfn {
            claim: "pfn0.1".into(),
            map: "mem".into()
        }
    );
    assert_eq!(facts.namespace.as_deref(), Some("namespace0.0"));
    assert_eq!(facts.partition, Some((1 << 20, 4 << 20)));
    assert!(facts.dax && facts.read_only && !facts.region_read_only);
    assert_eq!((facts.sector, facts.bad.len()), (4096, 2));
    assert_eq!(facts.persistence.as_deref(), Some("memory_controller"));
    assert_eq!(
        wrong(&facts)[..3],
        [
            ("huge pages", State::Warning),
            ("read-only", State::Warning),
            ("media", State::Warning)
        ]
    );
    Ok(())
}
