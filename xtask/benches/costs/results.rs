//! What the rows measured, kept for plots: `--save`, `--from` and `--plot`.
//!
//! Every run draws what it measured and nothing else. What takes long is measured alone and kept: results that are
//! read by `--from` stay unless the same thing is measured again, and are written by `--save`. With `--from` and no
//! name of a row nothing is measured. Paths are those from the root of the repository.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use crate::plot::{Group, SECTIONS, plot};

/// What the command line says about results, and the other arguments.
#[derive(Default)]
pub struct Wanted {
    pub rows: Vec<String>,
    pub fleet: Option<PathBuf>,
    pub from: Option<PathBuf>,
    save: Option<PathBuf>,
    plot: Option<PathBuf>,
}

impl Wanted {
    pub fn parse(args: impl IntoIterator<Item = String>) -> Wanted {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let (mut wanted, mut args) = (Wanted::default(), args.into_iter());
        while let Some(arg) = args.next() {
            let mut path = || {
                let value = args.next();
                Some(root.join(value.unwrap_or_else(|| panic!("`{arg}` takes a path"))))
            };
            match arg.as_str() {
                "--fleet" => wanted.fleet = path(),
                "--from" => wanted.from = path(),
                "--save" => wanted.save = path(),
                "--plot" => wanted.plot = path(),
                _ if arg.starts_with('-') => {
                    let is_help = arg == "--help" || arg == "-h";
                    let what = if is_help {
                        "usage".to_owned()
                    } else {
                        format!("unknown option `{arg}`")
                    };
                    println!(
                        "{what}: cargo xbench -- [NAME…] [--fleet DIR] [--save FILE] [--from FILE] [--plot DIR]\n\
                         all rows, or those whose name holds NAME; docs/benchmarks.md says what they measure"
                    );
                    std::process::exit(if is_help { 0 } else { 2 });
                }
                _ => wanted.rows.push(arg),
            }
        }
        wanted
    }

    /// Whether a row is to run. All are if none is named, unless there are results to draw or a fleet to look at.
    pub fn is_row(&self, name: &str) -> bool {
        let is_all = self.rows.is_empty() && self.from.is_none();
        is_all || self.rows.iter().any(|word| name.contains(word))
    }
}

/// The results so far.
#[derive(Default)]
pub struct Results(RefCell<Vec<Group>>);

impl Results {
    pub fn begin(wanted: &Wanted) -> Results {
        let Some(from) = &wanted.from else { return Results::default() };
        let text = fs::read_to_string(from)
            .unwrap_or_else(|cause| panic!("cannot read `{}`: {cause}", from.display()));
        Results(RefCell::new(serde_json::from_str(&text).unwrap()))
    }

    /// Adds what was measured, or replaces what was measured of the same before.
    pub fn add(&self, group: Group) {
        let mut all = self.0.borrow_mut();
        let is_same = |old: &&mut Group| old.section == group.section && old.title == group.title;
        match all.iter_mut().find(is_same) {
            Some(old) => *old = group,
            None => all.push(group),
        }
    }

    /// Writes what the command line asks for.
    pub fn finish(&self, wanted: &Wanted) {
        let all = self.0.borrow();
        if let Some(file) = &wanted.save {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, serde_json::to_string_pretty(&*all).unwrap() + "\n").unwrap();
        }
        let Some(folder) = &wanted.plot else { return };
        fs::create_dir_all(folder).unwrap();
        for section in SECTIONS {
            if let Some(svg) = plot(section, &all) {
                fs::write(folder.join(section.file()), svg).unwrap();
                println!("  wrote {}", folder.join(section.file()).display());
            }
        }
    }
}
