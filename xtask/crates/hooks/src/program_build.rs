//! The build of the program of the hooks from the sources of a commit, in a folder outside of every repository.
//!
//! ```text
//! tree 1a2b3c4 -> ~/.cargo/xtask-source/KEY/sources -> cargo build -> …/target/debug/xtask
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::program::{ProgramInstaller, SOURCE_PATHS};
use super::program_store;
use xtask_base::digest;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::CreateMode;
use xtask_base::name::NAME;
use xtask_base::process::Program;
use xtask_config::toolchain::{self, TOOLCHAIN_FILES, has_build_target};
use xtask_git::{Id, PathScope};

/// The timeout for `--version` of a new program, which should take milliseconds.
pub(super) const VERSION_WAIT: Duration = Duration::from_secs(20);

impl ProgramInstaller<'_> {
    /// Builds the program from `tree`, which is not canonical yet, and returns its `--version`: sources that do not build
    /// must not become canonical. The launcher is built as well, in a workspace made of the files `around`. The caller
    /// holds the installation lock.
    pub fn try_build(&self, tree: Id, around: &[(&str, String)]) -> Result<String> {
        let place = self.make_build_folder()?;
        let said = self.build_program(tree, &place).and_then(|built| match built {
            None => Err(Error::negative("it does not build; see the output of cargo above")),
            Some(_) if !self.can_build_launcher(&place, around)? => {
                Err(Error::negative("its launcher does not build; see the output of cargo above"))
            }
            Some(program) => {
                let tried = Program::new(&program, &place)
                    .args(["--version"])
                    .env_remove("CARGO_MANIFEST_DIR")
                    .run_with_timeout(VERSION_WAIT)?;
                if !tried.status.success() {
                    return Err(
                        Error::negative("it builds but does not run").with_detail(tried.stderr)
                    );
                }
                Ok(tried.stdout.trim().to_owned())
            }
        });
        drop(self.disk.remove_folder(&place));
        said
    }

    /// Creates a folder for the sources in the home folder of cargo, so that neither the configuration of a repository nor
    /// a file in the folder for temporary files is found above it.
    pub(super) fn make_build_folder(&self) -> Result<PathBuf> {
        let home = program_store::find_cargo_home(self.world).ok_or_else(|| {
            Error::unable("cannot find the home folder of cargo")
                .with_hint("set HOME or CARGO_HOME to an absolute path")
        })?;
        let common = self.repo.common_folder().as_os_str().as_encoded_bytes();
        let key = &digest::to_hex(&digest::hash_parts([common]))[..16];
        let place = home.join("xtask-source").join(key);
        self.disk
            .remove_folder(&place)
            .and_then(|()| fs::create_dir_all(&place))
            .with_context(|| format!("cannot create `{}`", place.display()))?;
        Ok(place)
    }

    /// Returns whether the launcher builds next to the exported sources.
    fn can_build_launcher(&self, place: &Path, around: &[(&str, String)]) -> Result<bool> {
        let root = place.join("sources");
        for (name, text) in around {
            let failed = || format!("cannot write `{name}` to test the launcher");
            self.disk
                .create_file(&root.join(name), text.as_bytes(), CreateMode::Plain)
                .with_context(failed)?;
        }
        let config = std::fs::read_to_string(root.join(".cargo/config.toml")).unwrap_or_default();
        let host = ["--target", "host-tuple"];
        let built = Program::new("cargo", &root)
            .args(["build", "--quiet", "--locked", "--offline", "--package", NAME])
            .args(["--bins", "--examples"])
            .args(host.iter().filter(|_| has_build_target(&config)))
            .args([Path::new("--target-dir"), &place.join("launcher")])
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO_BUILD_TARGET")
            .run_attached()?;
        Ok(built.success())
    }

    /// Builds the program of `tree`. Returns `None` if cargo fails.
    pub(super) fn build_program(&self, tree: Id, place: &Path) -> Result<Option<PathBuf>> {
        let (sources, target) = (place.join("sources"), place.join("target"));
        self.repo.export_tree(tree, &RustSources, &sources, self.disk)?;
        let config = |name: &str| std::fs::read_to_string(sources.join(name)).ok();
        // A toolchain that is too old for the toolkit cannot be the intended one.
        for name in TOOLCHAIN_FILES {
            let channel = config(name).as_deref().and_then(toolchain::parse_channel);
            if channel.is_some_and(|channel| toolchain::is_too_old(&channel)) {
                self.disk
                    .remove_file(&sources.join(name))
                    .with_context(|| "cannot export the sources")?;
            }
        }
        let root = sources.join(NAME);
        let mut program = Program::new("cargo", &root)
            .args(["build", "--package", NAME, "--bins", "--examples"])
            .args([Path::new("--target-dir"), &target])
            // Settings of the checked-out branch do not apply here.
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO_BUILD_TARGET")
            // These sources are never edited, so incremental compilation would not pay off.
            .env("CARGO_INCREMENTAL", "0");
        if let Some(sources) = program_store::digest_sources(self.repo, tree)? {
            for (name, value) in &sources.crate_variables {
                program = program.env(name, value);
            }
            // Same variables as in the launcher, so that builds of different checkouts are distinguished.
            program = program.env("XTASK_SOURCES", sources.workspace);
            if self.world.variable("RUSTC_WORKSPACE_WRAPPER").is_none() {
                program = program.env("RUSTC_WORKSPACE_WRAPPER", "");
            }
        }
        let is_for_host = config(".cargo/config.toml").as_deref().is_some_and(has_build_target);
        if is_for_host {
            program = program.args(["--target", "host-tuple"]);
        }
        if root.join("Cargo.lock").is_file() {
            program = program.args(["--locked"]);
        }
        if self.is_quiet {
            program = program.args(["--quiet"]);
        }
        let built = program.run_attached()?;
        // With an explicit target, cargo builds in a folder named after the target.
        let mut folders = vec![target.clone()];
        if is_for_host {
            let found =
                std::fs::read_dir(&target).with_context(|| "cannot find the build output")?;
            folders.extend(found.flatten().map(|found| found.path()));
        }
        // A repository that received a copy of the toolkit builds it as an example; see its `Cargo.toml`.
        let names = [format!("debug/examples/{NAME}"), format!("debug/{NAME}")];
        let mut programs =
            folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name)));
        Ok(programs.find(|program| built.success() && program.is_file()))
    }
}

/// The files that cargo needs to build the program: `xtask/`, a workspace of its own, and the cargo and toolchain
/// settings of the repository.
struct RustSources;

impl PathScope for RustSources {
    fn may_contain(&self, folder: &[u8]) -> bool {
        let first = folder.split(|byte| *byte == b'/').next().unwrap_or(folder);
        first == NAME.as_bytes() || first == b".cargo"
    }

    fn contains_path(&self, path: &[u8]) -> bool {
        SOURCE_PATHS.iter().any(|source| {
            path.strip_prefix(source.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    }
}
