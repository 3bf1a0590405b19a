// SPDX-License-Identifier: GPL-2.0

//! `make abi`: compares the interfaces of the two kernels.
//!
//! Both variants are built and examined from outside, area by area: what
//! modules can link to and include, what tools read from module files and from
//! the configuration, and what programs see in a running guest. Each area reads
//! facts (facts) of each variant:
//!
//! ```text
//! symbols     exported and global symbols
//! prototypes  what C calls and Rust defines (objects)
//! layout      sizes and offsets of structs, by bindgen
//! modules     .modinfo
//! config      .config, and Kconfig of the pieces
//! running     sysfs, debugfs, trace events, errnos: reported by the guest
//! ```
//! A difference is intended if `tools/abi/intended.toml` has an entry for it
//! (intended); any other difference makes the command fail (report).

mod config;
mod facts;
mod intended;
mod layout;
mod modules;
mod prototypes;
mod report;
mod running;
mod symbols;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::builder::FalseyValueParser;
use clap::Args;
use fs_err as fs;

use crate::report::Report;
use facts::{compare, Area, Compared};
use host::files;
use host::kernel::Built;
use host::lock::cache_lock;
use host::paths::Paths;
use host::progress::Step;
use host::requirements::require_host;
use host::variant::Variant;
use intended::Intended;
use kbuild::build;
use kbuild::source::{self, Source};

/// The two sides, in the order of the columns.
const SIDES: [Variant; 2] = [Variant::C, Variant::Rust];

/// Options that select what is compared.
#[derive(Args, Clone, Debug)]
pub struct AbiArgs {
    /// Compare the builds only and boot nothing.
    #[arg(long, env = "QUICK", value_parser = FalseyValueParser::new())]
    pub quick: bool,
    /// Take both build directories as they are instead of building.
    #[arg(long)]
    pub as_built: bool,
}

/// Compares and prints; the exit status is 1 if a difference is not intended.
pub fn run(paths: &Paths, args: &AbiArgs) -> Result<i32> {
    let intended = Intended::read(&paths.checkout)?;
    let builds = Builds::find(paths, args)?;
    let mut areas = BTreeMap::new();
    builds.compare(paths, &mut areas)?;
    if !args.quick {
        running::compare_guests(paths, &builds.built, &mut areas)?;
    }
    let kernels = builds.built.map(|b| b.release_string);
    let report = Report::new(kernels, areas, &intended);
    let path = paths.result("abi.json");
    files::write_json(&path, &report)?;
    print!("{}", report.text());
    println!("\nAll of it, name by name: {}", path.display());
    Ok(i32::from(!report.ok))
}

/// The two kernels and their source.
struct Builds {
    built: [Built; 2],
    dirs: [PathBuf; 2],
    source: Source,
}

impl Builds {
    fn find(paths: &Paths, args: &AbiArgs) -> Result<Builds> {
        require_host()?;
        let [c, rust] = SIDES.map(|v| {
            if args.as_built {
                build::as_built(paths, v)
            } else {
                build::build_to_boot(paths, v)
            }
        });
        let built = [c?, rust?];
        let source = if args.as_built {
            Source::at(&built[0].source)
        } else {
            let _lock = cache_lock(paths, "preparing the kernel's source")?;
            source::prepare(paths)?
        };
        Ok(Builds {
            built,
            dirs: SIDES.map(|v| paths.build(v)),
            source,
        })
    }

    /// Compares the areas that need no guest.
    fn compare(&self, paths: &Paths, areas: &mut BTreeMap<Area, Compared>) -> Result<()> {
        let log = paths.new_log("abi")?;
        let [c, rust] = &self.dirs;
        let mut step = Step::start("Comparing the builds", Some(6), &log);

        step.set(0, "exported symbols");
        let symbols = |dir| symbols::exported(dir);
        areas.insert(
            Area::Symbol,
            compare(Area::Symbol, &symbols(c)?, &symbols(rust)?),
        );

        step.set(1, "modules");
        let trees = |built: &Built| -> Result<_> {
            let mut list = modules::installed(&built.modules)?;
            let nfit = modules::installed(&built.nfit_modules)?;
            // The second tree repeats the first and adds the modules of
            // nfit_test.
            list.extend(nfit.into_iter().filter(|(n, _)| n.starts_with("updates/")));
            Ok(list)
        };
        let (mods_c, mods_rust) = (trees(&self.built[0])?, trees(&self.built[1])?);
        areas.insert(
            Area::Module,
            compare(
                Area::Module,
                &modules::facts(c, &mods_c)?,
                &modules::facts(rust, &mods_rust)?,
            ),
        );
        let global = [
            symbols::global(c, &mods_c)?,
            symbols::global(rust, &mods_rust)?,
        ];
        areas.insert(Area::Global, compare(Area::Global, &global[0], &global[1]));

        step.set(2, "configuration");
        areas.insert(
            Area::Config,
            compare(Area::Config, &config::symbols(c)?, &config::symbols(rust)?),
        );
        areas.insert(Area::Kconfig, config::pieces(&self.source.dir)?);

        step.set(3, "prototypes");
        areas.insert(Area::Prototype, prototypes::check(rust, &self.source.dir)?);

        step.set(4, "struct layouts");
        self.layouts(paths, &log, areas)?;
        step.done();
        Ok(())
    }

    fn layouts(
        &self,
        paths: &Paths,
        log: &Path,
        areas: &mut BTreeMap<Area, Compared>,
    ) -> Result<()> {
        let path = paths.checkout.join(layout::FILE);
        let listed = fs::read_to_string(&path)?;
        let listed = layout::list(&listed);
        let mut names = listed.clone();
        for dir in &self.dirs {
            names.extend(layout::named_in_sources(dir)?);
        }
        let _lock = cache_lock(paths, "comparing the layouts of structs")?;
        let ask = |dir: &Path| layout::read(dir, &names, log);
        let [c, rust] = [ask(&self.dirs[0])?, ask(&self.dirs[1])?];
        let mut layout = compare(Area::Layout, &c.c, &rust.c);
        let absent: Vec<_> = listed.difference(&rust.structs).cloned().collect();
        if !absent.is_empty() {
            layout.notes.push(format!(
                "not compared, because the headers of the bindings do not show them: {}",
                absent.join(", ")
            ));
        }
        layout.notes.push(
            "a bit field has no address: only the members around it show that one has moved".into(),
        );
        areas.insert(Area::Layout, layout);
        let mut binding = compare(Area::Binding, &rust.c, &rust.rust);
        // The other kernel has the same bindings; its Rust code differs only in
        // the pieces.
        let other = compare(Area::Binding, &c.c, &c.rust).differences;
        let new: Vec<_> = other
            .into_iter()
            .filter(|d| !binding.differences.contains(d))
            .collect();
        binding.differences.extend(new);
        areas.insert(Area::Binding, binding);
        Ok(())
    }
}
