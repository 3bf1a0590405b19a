// SPDX-License-Identifier: GPL-2.0

//! Debian packages of a kernel with the Rust pieces, and of daxstat with its manual.
//!
//! The kernel's own `scripts/package/builddeb` installs the image, the headers and the symbols into
//! trees; what Debian needs beside them (control files, documentation, what Rust modules out of the
//! tree are compiled against) is added here, and `dpkg-deb` makes the archives. `make bindeb-pkg`
//! does not fit: its packages of Rust kernels lack the crates, it always makes linux-libc-dev, and
//! dates and names of the machine get into the archives.
//!
//! Release and version are those of the source with `-rustdaxN`: the packages are installed beside
//! Debian's kernels and replace none. Built twice from the same commit and the same directory they are
//! the same, byte for byte. In another directory the key differs that the kernel's build makes for
//! signing modules, and with it the signatures.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::builder::FalseyValueParser;
use clap::Args;
use fs_err as fs;

use crate::build::run_make;
use crate::kconfig;
use crate::make::{kernel_make, release};
use crate::program;
use crate::source::{self, Source};
use crate::toolchain::{Toolchain, LLVM};
use host::command::{clean, output, run_logged};
use host::files;
use host::lock::cache_lock;
use host::paths::Paths;
use host::progress::Step;
use host::requirements::{require_disk, require_host};
use host::variant::{Base, Recipe};

/// Incremented for a new package of the same release of Linux.
const REVISION: u32 = 1;

const MAINTAINER: &str = "rust-dax developers <rust-dax@localhost>";

/// The configuration that a package is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Flavour {
    /// Debian's for cloud guests.
    Cloud,
    /// Debian's for all machines.
    Amd64,
    /// The small one of this project's guests.
    Small,
}

impl Flavour {
    /// Returns the end of the package's name.
    const fn name(self) -> &'static str {
        match self {
            Flavour::Cloud => "cloud-amd64",
            Flavour::Amd64 => "amd64",
            Flavour::Small => "small-amd64",
        }
    }

    const fn recipe(self) -> Recipe {
        const DEBIAN: &[&str] = &["rust.config", "package.config"];
        match self {
            Flavour::Cloud => Recipe {
                name: "deb-cloud",
                base: Base::DebianCloud,
                fragments: DEBIAN,
                modules: None,
            },
            Flavour::Amd64 => Recipe {
                name: "deb-amd64",
                base: Base::DebianAmd64,
                fragments: DEBIAN,
                modules: None,
            },
            Flavour::Small => Recipe {
                name: "deb-small",
                base: Base::Tiny,
                fragments: &["base.config", "rust.config", "small.config"],
                modules: None,
            },
        }
    }

    /// Returns the GiB that a first build needs, and the minutes that it takes on two cores.
    const fn cost(self) -> (u64, u32) {
        match self {
            Flavour::Cloud => (20, 60),
            Flavour::Amd64 => (60, 300),
            Flavour::Small => (5, 25),
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct DebArgs {
    /// The configuration.
    #[arg(long, env = "FLAVOUR", value_enum, default_value = "cloud")]
    flavour: Flavour,
    /// Also make the package of debugging symbols.
    #[arg(long, env = "SYMBOLS", value_parser = FalseyValueParser::new())]
    symbols: bool,
    /// Folder for the packages; by default deb in the cache.
    #[arg(long, env = "OUT")]
    out: Option<PathBuf>,
}

/// Builds the kernel and its packages. Returns a line for each package: path and size.
pub fn run(paths: &Paths, args: &DebArgs) -> Result<Vec<String>> {
    require_host()?;
    let recipe = args.flavour.recipe();
    let _lock = cache_lock(
        paths,
        &format!("making the {} packages", args.flavour.name()),
    )?;
    let tc = Toolchain::find(paths)?;
    let source = source::prepare(paths)?;
    let dir = paths.build_named(recipe.name);
    let log = paths.new_log(recipe.name)?;
    if !dir.join("vmlinux").is_file() {
        let (gib, minutes) = args.flavour.cost();
        require_disk(&paths.cache, gib, "a first build of the packages")?;
        eprintln!(
            "A first build takes {gib} GiB and about {minutes} minutes on two cores; one that was \
             interrupted continues."
        );
    }
    kconfig::configure(paths, &source, &recipe, &dir, &tc, &log)?;

    let maker = Maker {
        paths,
        source: &source,
        dir: &dir,
        tc: &tc,
        log: &log,
        flavour: args.flavour,
    };
    let label = format!(
        "Building the {} kernel (Linux {})",
        recipe.name, source.release
    );
    let mut cmd = maker.make();
    cmd.args(["bzImage", "modules"]);
    run_make(paths, &source, &dir, &mut cmd, &label, &log)?;

    let out = args.out.clone().unwrap_or_else(|| paths.cache.join("deb"));
    files::make_dir(&out)?;
    let release = release(&dir)?;
    let mut packages = vec![image(&maker, &release)?, headers(&maker, &release)?];
    if args.symbols {
        packages.push(symbols(&maker, &release)?);
    }
    let daxstat = program::build_daxstat(paths)?;
    packages.push(tool(&maker, &daxstat)?);
    packages.iter().map(|p| maker.archive(p, &out)).collect()
}

/// The contents of a package, in a tree of its own, and the fields of its control file.
struct Package {
    name: String,
    fields: Vec<(&'static str, String)>,
    /// The first line of the description, and the others.
    description: (String, String),
}

/// What all packages of one build have in common.
struct Maker<'a> {
    paths: &'a Paths,
    source: &'a Source,
    dir: &'a Path,
    tc: &'a Toolchain,
    log: &'a Path,
    flavour: Flavour,
}

impl Maker<'_> {
    /// Returns the command for the kernel's make, for the release of the package.
    fn make(&self) -> Command {
        let mut cmd = kernel_make(self.paths, self.source, self.dir, self.tc);
        cmd.arg(format!(
            "LOCALVERSION=-rustdax{REVISION}-{}",
            self.flavour.name()
        ));
        cmd
    }

    /// Returns the version of the packages.
    fn version(&self) -> String {
        format!("{}-rustdax{REVISION}", self.source.release)
    }

    /// Returns the tree of a package.
    fn tree(&self, package: &str) -> PathBuf {
        self.dir.join("debian").join(package)
    }

    /// Fills the tree of a package of the kernel.
    fn install(&self, package: &str) -> Result<()> {
        files::remove_tree(&self.tree(package))?;
        let step = Step::start(&format!("Installing {package}"), None, self.log);
        let mut cmd = self.make();
        // With another name for the compiler than for that of the host, the script would build the
        // programs of scripts/ again.
        cmd.arg(format!("CC=clang-{LLVM}"))
            .arg("run-command")
            .arg(format!(
                "KBUILD_RUN_COMMAND=+$(srctree)/scripts/package/builddeb {package}"
            ));
        run_logged(&mut cmd, self.log, |_| ())
            .with_context(|| format!("cannot install the files of {package}"))?;
        step.done();
        Ok(())
    }

    /// Writes a file into the tree of a package.
    fn write(&self, package: &str, path: &str, text: &str) -> Result<()> {
        let path = self.tree(package).join(path);
        files::make_dir(path.parent().unwrap_or(&path))?;
        Ok(fs::write(path, text)?)
    }

    /// Makes the archive of a package. Returns a line about it.
    fn archive(&self, package: &Package, out: &Path) -> Result<String> {
        let name = &package.name;
        let tree = self.tree(name);
        let doc = format!("usr/share/doc/{name}");
        let date = self.date("%cD")?;
        self.write(
            name,
            &format!("{doc}/changelog.Debian"),
            &format!(
                "linux-rustdax ({}) unstable; urgency=medium\n\n  * rust-dax at {}.\n\n -- \
                 {MAINTAINER}  {date}\n",
                self.version(),
                self.commit()?
            ),
        )?;
        let copyright = self.source.dir.join("scripts/package/debian/copyright");
        fs::copy(copyright, tree.join(&doc).join("copyright"))?;
        self.write(name, "DEBIAN/control", &self.control(package)?)?;
        // The list of checksums is sorted, as the same tree must give the same package.
        let mut finish = clean("/bin/sh");
        finish.current_dir(&tree).arg("-ec").arg(format!(
            "gzip -9nf {doc}/changelog.Debian\n\
             chmod -R u+rwX,go+rX,go-w .\n\
             find . -path ./DEBIAN -prune -o -type f -printf '%P\\0' | LC_ALL=C sort -z | \
             xargs -0r md5sum >DEBIAN/md5sums"
        ));
        run_logged(&mut finish, self.log, |_| ())?;

        let file = out.join(format!("{name}_{}_amd64.deb", self.version()));
        let step = Step::start(&format!("Packing {name}"), None, self.log);
        let mut cmd = clean("dpkg-deb");
        cmd.args(["-Zxz", "--root-owner-group", "--build"])
            .arg(&tree)
            .arg(&file)
            .env("SOURCE_DATE_EPOCH", self.date("%ct")?);
        run_logged(&mut cmd, self.log, |_| ())
            .with_context(|| format!("cannot make {}", file.display()))?;
        step.done();
        let mib = fs::metadata(&file)?.len() >> 20;
        Ok(format!("{}  {mib} MiB", file.display()))
    }

    fn control(&self, package: &Package) -> Result<String> {
        let tree = self.tree(&package.name);
        let du = output(clean("du").args(["-sk", "--apparent-size"]).arg(&tree))?;
        let kib = du.split_whitespace().next().unwrap_or("0");
        let mut text = format!(
            "Package: {}\nSource: linux-rustdax\nVersion: {}\nArchitecture: amd64\nMaintainer: \
             {MAINTAINER}\nInstalled-Size: {kib}\nPriority: optional\n",
            package.name,
            self.version()
        );
        for (field, value) in &package.fields {
            text += &format!("{field}: {value}\n");
        }
        let (short, long) = &package.description;
        text += &format!("Description: {short}\n");
        for line in long.lines() {
            text += &format!(" {}\n", if line.is_empty() { "." } else { line });
        }
        Ok(text)
    }

    /// Returns the time of the commit that the packages are made of.
    fn date(&self, format: &str) -> Result<String> {
        let text = self.git(&["log", "-1", &format!("--format={format}")])?;
        Ok(text.trim().to_owned())
    }

    fn commit(&self) -> Result<String> {
        let text = self.git(&["describe", "--always", "--abbrev=12", "--dirty"])?;
        Ok(text.trim().to_owned())
    }

    fn git(&self, args: &[&str]) -> Result<String> {
        output(clean("git").arg("-C").arg(&self.paths.checkout).args(args))
            .context("packages are made of a git checkout")
    }
}

/// Makes the tree of the kernel and its modules.
fn image(maker: &Maker<'_>, release: &str) -> Result<Package> {
    let name = format!("linux-image-{release}");
    maker.install(&name)?;
    let doc = maker.tree(&name).join("usr/share/doc").join(&name);
    files::make_dir(&doc)?;
    let differences = maker.dir.join(kconfig::DIFFERENCES);
    if differences.is_file() {
        fs::copy(&differences, doc.join("differences-from-Debian"))?;
    }
    let kind = maker.flavour.name();
    Ok(Package {
        name,
        fields: vec![
            ("Section", "kernel".into()),
            (
                "Depends",
                "kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | \
                 linux-initramfs-tool"
                    .into(),
            ),
            ("Recommends", "ndctl, daxctl".into()),
            (
                "Suggests",
                format!("linux-headers-{release}, daxstat, grub-pc | grub-efi-amd64"),
            ),
            (
                "Provides",
                format!(
                    "linux-image-rustdax-{kind} (= {}), wireguard-modules (= 1.0.0)",
                    maker.version()
                ),
            ),
        ],
        description: (
            format!("Linux {} with persistent memory in Rust ({kind})", maker.source.release),
            "The kernel of Debian's source linux-source-6.12, with the registry of device pgmaps,\n\
             the driver nd_pmem, filesystem DAX and the walk of get_user_pages_fast() in Rust.\n\
             \n\
             It is installed beside Debian's kernels and replaces none. How its configuration\n\
             differs from Debian's is in /usr/share/doc/ of this package."
                .into(),
        ),
    })
}

/// Makes the tree of what modules out of the tree are compiled against.
fn headers(maker: &Maker<'_>, release: &str) -> Result<Package> {
    let name = format!("linux-headers-{release}");
    maker.install(&name)?;
    // The crates and macros that a module in Rust uses. The target is in scripts/.
    let to = maker.tree(&name).join(format!("usr/src/{name}/rust"));
    files::make_dir(&to)?;
    for entry in fs::read_dir(maker.dir.join("rust"))? {
        let entry = entry?;
        let file = entry.file_name();
        let file = file.to_string_lossy();
        if file.ends_with(".rmeta") || file.ends_with(".so") {
            fs::copy(entry.path(), to.join(&*file))?;
        }
    }
    let rustc = output(clean(&maker.tc.rustc).arg("--version"))?;
    Ok(Package {
        name,
        fields: vec![
            ("Section", "kernel".into()),
            (
                "Recommends",
                format!("linux-image-{release}, make, clang-{LLVM}, lld-{LLVM}, llvm-{LLVM}"),
            ),
            ("Suggests", "rustc | rustc-web".into()),
            (
                "Provides",
                format!(
                    "linux-headers-rustdax-{} (= {})",
                    maker.flavour.name(),
                    maker.version()
                ),
            ),
        ],
        description: (
            format!(
                "Headers of Linux {} with persistent memory in Rust",
                maker.source.release
            ),
            format!(
                "For modules out of the tree, in C and in Rust:\n\
                 make LLVM=-{LLVM} -C /lib/modules/{release}/build M=$PWD modules\n\
                 \n\
                 Modules in Rust need the compiler that the kernel was built with:\n\
                 {}.",
                rustc.trim()
            ),
        ),
    })
}

/// Makes the tree of the debugging symbols.
fn symbols(maker: &Maker<'_>, release: &str) -> Result<Package> {
    let name = format!("linux-image-{release}-dbg");
    maker.install(&name)?;
    Ok(Package {
        name,
        fields: vec![("Section", "debug".into())],
        description: (
            format!("Debugging symbols of Linux {release}"),
            "vmlinux and the symbols of the modules, for gdb, crash and perf.".into(),
        ),
    })
}

/// Makes the tree of daxstat.
fn tool(maker: &Maker<'_>, program: &Path) -> Result<Package> {
    let name = "daxstat".to_owned();
    let tree = maker.tree(&name);
    files::remove_tree(&tree)?;
    let bin = tree.join("usr/bin");
    files::make_dir(&bin)?;
    fs::copy(program, bin.join("daxstat"))?;
    let strip = format!("/usr/lib/llvm-{LLVM}/bin/llvm-strip");
    run_logged(clean(strip).arg(bin.join("daxstat")), maker.log, |_| ())?;
    let pages = program::write_daxstat_share(maker.paths, &tree.join("usr/share"))?;
    let mut gzip = clean("gzip");
    gzip.args(["-9n", "-r"]).arg(pages);
    run_logged(&mut gzip, maker.log, |_| ())?;
    let page = maker
        .paths
        .checkout
        .join("Documentation/filesystems/daxstat.rst");
    let doc = tree.join("usr/share/doc").join(&name);
    files::make_dir(&doc)?;
    fs::copy(page, doc.join("daxstat.rst"))?;
    Ok(Package {
        name,
        fields: vec![
            ("Section", "admin".into()),
            ("Depends", "libc6 (>= 2.36), libgcc-s1".into()),
            ("Suggests", "ndctl".into()),
        ],
        description: (
            "explain what DAX does on this machine".into(),
            "Shows why a DAX mapping has no huge pages, what a teardown waits for, and whether a\n\
             disk is fit for DAX. It works on kernels with and without the Rust pieces."
                .into(),
        ),
    })
}
