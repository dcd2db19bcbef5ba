//! The texts of `vendor`: the plan, the edits that remain, and the next commands, e.g. `  create  justfile`.

use super::install_plan::VendorPlan;
use xtask_base::words::{pluralize, quote_for_shell};
use xtask_upgrade::copy_spec::CopySpec;

impl VendorPlan {
    /// Returns a text for each edit that remains to be made manually.
    #[must_use]
    pub fn render_manual_edits(&self) -> Vec<String> {
        let text = self.by_hand.iter().map(|one| {
            let lines = one.lines.trim_end();
            format!("edit `{}` manually: {}. Add these lines:\n{lines}", one.path, one.why)
        });
        text.collect()
    }

    /// Returns a line for each path. `name` is the folder of the toolkit.
    #[must_use]
    pub fn render_text(&self, name: &str, title: &str) -> String {
        let files = pluralize(self.toolkit_files, "file");
        let mut text = format!("{title}\n");
        let mut line = |what: &str, path: &str| text.push_str(&format!("  {what:<7} {path}\n"));
        line("create", &format!("{name}/ ({files}: {})", self.parts.to_flag_value()));
        self.created.iter().for_each(|path| line("create", path));
        self.edited.iter().for_each(|path| line("edit", path));
        self.kept.iter().for_each(|path| line("keep", &format!("{path}, which already exists")));
        text
    }

    /// Returns the next commands in the repository `place`, a line each.
    #[must_use]
    pub fn render_next_steps(&self, place: &str, spec: &CopySpec, version: &str) -> Vec<String> {
        let command = |words: &str| spec.rename_text(&format!("cargo xtask {words}"));
        let title = match self.needs_cargo_edits {
            true => "after editing and staging these files:",
            false => "next:",
        };
        let mut lines = vec![
            title.to_owned(),
            format!("  cd {}", quote_for_shell(place)),
            format!("  git commit -m 'Add {} {version}'", spec.name),
        ];
        if self.has_remote {
            let why = "before the hooks protect the branch; or open a pull request";
            lines.push(format!("  git push                 {why}"));
        }
        let why = "the first run compiles, which takes a minute or two";
        lines.push(format!("  {:<25}{why}", command("setup")));
        if self.parts.has_part("services") {
            lines.push(format!("  {}", command("start")));
        }
        if !self.parts.is_all() {
            let upgrade = command("upgrade --parts …");
            lines.push(format!("`{upgrade}` there adds or removes parts of the toolkit"));
        }
        lines
    }
}
