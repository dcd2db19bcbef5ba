//! The commands of the Node package managers *(pure)*, e.g. `pnpm install --frozen-lockfile`.

/// The commands of a Node package manager.
pub(super) struct ManagerCommands {
    /// The condition that selects it.
    pub(super) name: &'static str,
    pub(super) program: &'static str,
    /// The command that installs the package manager itself.
    pub(super) install_self: &'static str,
    /// The command that runs a program of an installed package.
    pub(super) exec: &'static str,
    /// The path that exists once packages are installed.
    pub(super) installed_marker: &'static str,
    /// The command that installs the packages exactly as locked.
    pub(super) install: &'static str,
    pub(super) lock: &'static str,
}

pub(super) const PACKAGE_MANAGERS: [ManagerCommands; 6] = [
    ManagerCommands {
        name: "npm",
        program: "npm",
        install_self: "",
        exec: "npx --no-install",
        installed_marker: "node_modules/.package-lock.json",
        install: "npm ci",
        lock: "package-lock.json",
    },
    ManagerCommands {
        name: "pnpm",
        program: "pnpm",
        install_self: "npm install --global pnpm",
        exec: "pnpm exec",
        installed_marker: "node_modules/.modules.yaml",
        install: "pnpm install --frozen-lockfile",
        lock: "pnpm-lock.yaml",
    },
    ManagerCommands {
        name: "yarn",
        program: "yarn",
        install_self: "npm install --global yarn",
        exec: "yarn run",
        installed_marker: "node_modules/.yarn-integrity",
        install: "yarn install --frozen-lockfile",
        lock: "yarn.lock",
    },
    ManagerCommands {
        name: "berry",
        program: "yarn",
        install_self: "corepack enable",
        exec: "yarn run",
        installed_marker: "node_modules/.yarn-state.yml",
        install: "yarn install --immutable",
        lock: "yarn.lock",
    },
    ManagerCommands {
        name: "plug-n-play",
        program: "yarn",
        install_self: "corepack enable",
        exec: "yarn run",
        installed_marker: ".pnp.cjs",
        install: "yarn install --immutable",
        lock: "yarn.lock",
    },
    ManagerCommands {
        name: "bun",
        program: "bun",
        install_self: "npm install --global bun",
        exec: "bun run",
        installed_marker: "node_modules",
        install: "bun install --frozen-lockfile",
        lock: "{bun.lock,bun.lockb}",
    },
];
