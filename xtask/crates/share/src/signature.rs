//! SSH signatures by `ssh-keygen -Y`, over standard input and output.
//!
//! Guarantee: a signature counts only for a signer who is listed exactly, by one name and one key. Options, patterns and
//! certificates of the `allowed_signers` format are refused when the list is read, because OpenSSH passes over a line
//! that it does not accept and takes a later one for the same key.
//!
//! ```text
//! signers = ["ci@example.com ssh-ed25519 AAAAC3…"]
//! ```

use std::path::Path;
use std::time::Duration;

use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::{CreateMode, Disk};
use xtask_base::process::Program;
use xtask_base::temp_folder::TempFolder;

/// The namespace of the signatures (`-n`): one made for another purpose is worth nothing here.
const NAMESPACE: &str = "xtask-result";

/// The longest time for one signature or verification: an agent or a token may ask a person.
const SIGN_TIMEOUT: Duration = Duration::from_secs(30);

/// The types of keys that a signer may have, as `ssh-keygen -t` makes them and security keys present them.
const KEY_TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Someone whose signature counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The name, for example `ci@example.com`.
    pub name: String,
    key_type: String,
    key: String,
}

impl Signer {
    /// Parses `NAME KEYTYPE KEY`. Returns what is wrong with it.
    pub fn parse(text: &str) -> Result<Signer, String> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let [name, key_type, key] = words[..] else {
            return Err(format!("`{text}` is not `NAME KEYTYPE KEY`: no options and no comment"));
        };
        let is_name = name.bytes().all(|b| b.is_ascii_graphic() && !b"*?!,\"\\#".contains(&b));
        if !is_name {
            return Err(format!("`{name}` is not the name of one signer: patterns are not taken"));
        }
        if !KEY_TYPES.contains(&key_type) {
            return Err(format!("`{key_type}` is not one of {}", KEY_TYPES.join(", ")));
        }
        let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
        if key.len() < 40 || !key.bytes().all(is_base64) {
            return Err(format!("the key of `{name}` is not base64"));
        }
        Ok(Signer { name: name.to_owned(), key_type: key_type.to_owned(), key: key.to_owned() })
    }

    /// Whether this is the signer's public key, as `TYPE KEY COMMENT`.
    #[must_use]
    pub fn has_public_key(&self, line: &str) -> bool {
        let mut words = line.split_ascii_whitespace();
        words.next() == Some(&self.key_type) && words.next() == Some(&self.key)
    }

    /// Renders the line of an `allowed_signers` file.
    pub(crate) fn to_line(&self) -> String {
        format!("{} {} {}\n", self.name, self.key_type, self.key)
    }
}

/// Returns the public key of a private one, or of a public one whose private key an agent holds, as `TYPE KEY COMMENT`.
pub fn read_public_key(world: &Environment, key: &Path) -> Result<String> {
    let failed = || format!("cannot read the key `{}`", key.display());
    // A pipe can be read once or never ends, and ssh-keygen has to read it, too.
    if !std::fs::metadata(key).with_context(failed)?.is_file() {
        return Err(Error::unable(failed()).with_detail("it is not a regular file"));
    }
    let text = std::fs::read(key).with_context(failed)?;
    if text.starts_with(b"ssh-") || text.starts_with(b"ecdsa-") || text.starts_with(b"sk-") {
        return Ok(String::from_utf8_lossy(&text).into_owned());
    }
    let folder = key.parent().filter(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let done = Program::new(find_keygen(world)?, folder)
        .args(["-y", "-P", "", "-f"])
        .args([key])
        .run_with_input(b"", SIGN_TIMEOUT)?;
    if !done.status.success() {
        return Err(Error::unable(failed()).with_detail(done.stderr).with_hint(
            "it must be a private SSH key without a passphrase that its owner alone can read",
        ));
    }
    Ok(done.stdout)
}

/// Signs `message` with the private key in the file `key`, and returns the armored signature.
pub fn sign(world: &Environment, key: &Path, message: &[u8]) -> Result<String> {
    let keygen = find_keygen(world)?;
    let folder = key.parent().filter(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let done = Program::new(keygen, folder)
        .args(["-Y", "sign", "-q", "-n", NAMESPACE, "-f"])
        .args([key])
        .run_with_input(message, SIGN_TIMEOUT)?;
    // An old file of a signature that is in the way makes it end with 0 all the same; the output has it, or has not.
    if !done.status.success() || !done.stdout.starts_with("-----BEGIN SSH SIGNATURE-----") {
        return Err(Error::unable(format!("cannot sign with `{}`", key.display()))
            .with_detail(done.stderr)
            .with_hint("the file must hold a private SSH key without a passphrase"));
    }
    Ok(done.stdout)
}

/// Whether `signature` is one of `signer` over `message`.
pub fn is_signed_by(
    world: &Environment,
    disk: &Disk<'_>,
    signer: &Signer,
    message: &[u8],
    signature: &str,
) -> Result<bool> {
    let keygen = find_keygen(world)?;
    let folder = TempFolder::new(world, "verify")?;
    let failed = || format!("cannot write to `{}`", folder.path().display());
    let (allowed, signed) = (folder.path().join("allowed"), folder.path().join("signature"));
    disk.create_file(&allowed, signer.to_line().as_bytes(), CreateMode::Plain)
        .with_context(failed)?;
    disk.create_file(&signed, signature.as_bytes(), CreateMode::Plain).with_context(failed)?;
    let done = Program::new(keygen, folder.path())
        .args(["-Y", "verify", "-n", NAMESPACE, "-I", &signer.name, "-f"])
        .args([&allowed])
        .args(["-s"])
        .args([&signed])
        .run_with_input(message, SIGN_TIMEOUT)?;
    // 0 is good; 255 stands for everything else, without a reason that could be parsed.
    Ok(done.status.success())
}

fn find_keygen(world: &Environment) -> Result<std::path::PathBuf> {
    world.find_program("ssh-keygen").ok_or_else(|| {
        Error::unable("`ssh-keygen` is not on PATH: signatures of shared results need it")
            .with_hint("install OpenSSH 8.2 or newer, or use `--no-share`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_regular_file() {
        let world = Environment::from_process().unwrap();
        let refused = read_public_key(&world, Path::new("/dev/null")).unwrap_err();
        assert_eq!(refused.details(), ["it is not a regular file"]);
    }

    #[test]
    fn only_plain_lines_name_a_signer() {
        let key = "AAAAC3NzaC1lZDI1NTE5AAAAIJ0000000000000000000000000000000000000000";
        assert!(Signer::parse(&format!("ci@example.com ssh-ed25519 {key}")).is_ok());
        for bad in [
            format!("*@example.com ssh-ed25519 {key}"),
            format!("a,b ssh-ed25519 {key}"),
            format!("ci namespaces=\"git\" ssh-ed25519 {key}"),
            format!("ci cert-authority ssh-ed25519 {key}"),
            format!("ci ssh-dss {key}"),
            format!("ci ssh-ed25519-cert-v01@openssh.com {key}"),
            "ci ssh-ed25519 short".to_owned(),
            "ci".to_owned(),
            String::new(),
        ] {
            assert!(Signer::parse(&bad).is_err(), "{bad}");
        }
    }
}
