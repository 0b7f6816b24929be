//! README tells the truth: every block in it is run, every file it names is there, its tables are the code's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};
use serde::de::{DeserializeOwned, Error, Visitor};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The fenced blocks of README: language and text.
fn blocks() -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(root().join("README.md"))?;
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let body: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((language.to_owned(), body.join("\n") + "\n"));
        }
    }
    Ok(blocks)
}

/// Loads the file and gives everything that start-up says.
fn dry_run(file: &Path) -> Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_affluent"))
        .arg("--dry-run")
        .arg("-c")
        .arg(file)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} does not load:\n{said}",
        file.display()
    );
    Ok(said)
}

/// Loads the file, in which everything must be used.
fn dry_run_clean(file: &Path) -> Result<()> {
    let said = dry_run(file)?;
    ensure!(
        !said.contains("is not used"),
        "{} has a parameter that is not used:\n{said}",
        file.display()
    );
    Ok(())
}

/// Commands that a test cannot run inside itself, with what shows that they are right.
fn is_known_elsewhere(command: &str) -> Result<bool> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml"))?;
    let ci = std::fs::read_to_string(root().join(".ci/run"))?;
    Ok(match command {
        "cargo run --release --example quickstart" => manifest.contains("name = \"quickstart\""),
        "cargo test" => ci.lines().any(|line| line == "cargo test"),
        "cargo build --profile dist" => manifest.contains("[profile.dist]"),
        _ if command.starts_with("cargo bench") => manifest.contains("[[bench]]"),
        _ => return Ok(false),
    })
}

#[test]
fn every_configuration_block_loads() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut loaded = 0;
    for (language, text) in blocks()?
        .into_iter()
        .filter(|(language, _)| language == "aconf")
    {
        let file = dir.path().join(format!("{language}-{loaded}.conf"));
        std::fs::write(&file, text)?;
        dry_run_clean(&file)?;
        loaded += 1;
    }
    ensure!(loaded > 0, "README shows no configuration");
    Ok(())
}

#[test]
fn every_command_runs() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let bin = PathBuf::from(env!("CARGO_BIN_EXE_affluent"));
    let bin_dir = bin
        .parent()
        .expect("the binary is in a directory")
        .display()
        .to_string();
    let path = format!("{bin_dir}:{}", std::env::var("PATH")?);
    for (_, text) in blocks()?
        .into_iter()
        .filter(|(language, _)| language == "sh")
    {
        for command in text.lines().filter(|line| !line.trim().is_empty()) {
            if is_known_elsewhere(command)? {
                continue;
            }
            // The packaged binary is the same program as the one under test.
            let command = command.replace("target/dist/affluent", &bin.display().to_string());
            let output = Command::new("sh")
                .args(["-ec", &command])
                .current_dir(root())
                .env("PATH", &path)
                .env("DESTDIR", dir.path())
                .output()?;
            ensure!(
                output.status.success(),
                "{command}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    Ok(())
}

#[test]
fn every_block_is_of_a_kind_that_is_run() -> Result<()> {
    for (language, text) in blocks()? {
        if !matches!(language.as_str(), "aconf" | "sh") {
            bail!("a block of README in {language:?} is run by nobody:\n{text}");
        }
    }
    Ok(())
}

#[test]
fn every_file_that_is_linked_is_there() -> Result<()> {
    let text = std::fs::read_to_string(root().join("README.md"))?;
    for (at, _) in text.match_indices("](") {
        let link: String = text[at + 2..].chars().take_while(|c| *c != ')').collect();
        if !link.contains("://") && !link.starts_with('#') {
            ensure!(
                root().join(&link).exists(),
                "README links {link}, which is not there"
            );
        }
    }
    Ok(())
}

#[test]
fn the_production_file_is_the_block_that_readme_shows() -> Result<()> {
    let shown = blocks()?
        .into_iter()
        .find(|(language, _)| language == "aconf")
        .map(|(_, text)| text);
    assert_eq!(
        shown,
        Some(std::fs::read_to_string(
            root().join("conf/production.conf")
        )?)
    );
    Ok(())
}

#[test]
fn every_configuration_in_conf_loads() -> Result<()> {
    let mut files = vec![];
    for folder in ["conf", "conf/examples"] {
        for entry in std::fs::read_dir(root().join(folder))? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "conf")
            {
                files.push(path);
            }
        }
    }
    ensure!(files.len() > 5, "conf/ has lost its examples: {files:?}");
    // The quickstart's file takes its ports and paths from the environment, as the quickstart sets them.
    for path in files
        .iter()
        .filter(|path| !path.ends_with("quickstart.conf"))
    {
        // Examples show what real files look like, leftovers included.
        if path
            .parent()
            .is_some_and(|folder| folder.ends_with("examples"))
        {
            dry_run(path)?;
        } else {
            dry_run_clean(path)?;
        }
    }
    Ok(())
}

/// The parameters that a `Params` knows: what serde asks a section for.
fn fields<T: DeserializeOwned>() -> BTreeSet<String> {
    struct Ask(&'static [&'static str]);
    struct Section<'a>(&'a mut Ask);
    impl<'de> serde::Deserializer<'de> for Section<'_> {
        type Error = serde::de::value::Error;
        fn deserialize_any<V: Visitor<'de>>(
            self,
            _: V,
        ) -> std::result::Result<V::Value, Self::Error> {
            Err(Error::custom("only structs"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> std::result::Result<V::Value, Self::Error> {
            self.0.0 = fields;
            Err(Error::custom("the fields are known now"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut ask = Ask(&[]);
    assert!(T::deserialize(Section(&mut ask)).is_err());
    ask.0.iter().map(|name| (*name).to_owned()).collect()
}

/// The names in back quotes of the paragraph that begins with this plugin's name.
fn listed(plugin: &str) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("README.md"))?;
    let paragraphs = text
        .split("\n\n")
        .filter(|paragraph| paragraph.starts_with(&format!("**{plugin}**:")));
    let paragraph = paragraphs.last().unwrap_or_default();
    let before_sections = paragraph
        .split("and the sections")
        .next()
        .unwrap_or_default();
    Ok(before_sections
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect())
}

#[test]
fn the_lists_of_parameters_are_the_codes() -> Result<()> {
    assert_eq!(
        listed("in_tail")?,
        fields::<affluent::input::tail::Params>()
    );
    assert_eq!(
        listed("out_forward")?,
        fields::<affluent::output::forward::Params>()
    );
    let mut buffer = fields::<affluent::flush::params::Params>();
    buffer.append(&mut fields::<affluent::buffer::TimeParams>());
    buffer.append(&mut fields::<affluent::buffer::file::params::Params>());
    assert_eq!(listed("buffer")?, buffer);
    #[cfg(feature = "aws")]
    assert_eq!(
        listed("drain")?,
        fields::<affluent::drain::params::Params>()
    );
    Ok(())
}
