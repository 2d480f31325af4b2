use serde::{Deserialize, de::DeserializeOwned};

/// A plugin's life: configuration at the start, health afterwards.
///
/// ```
/// use netloom_sdk::{prelude::*, testing};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Config {
///     /// This owner's programs go in front.
///     first: String,
/// }
///
/// #[plugin(lifecycle)]
/// #[derive(Default)]
/// struct OneFirst {
///     first: String,
/// }
///
/// impl Lifecycle for OneFirst {
///     type Config = Config;
///
///     fn init(&mut self, config: Config) -> Result<(), String> {
///         if config.first.is_empty() {
///             return Err("`first` is empty: name an owner, such as \"acme/firewall\"".to_owned());
///         }
///         self.first = config.first;
///         Ok(())
///     }
/// }
///
/// let mut plugin = OneFirst::default();
/// assert_eq!(testing::init(&mut plugin, r#"{ "first": "acme/firewall" }"#), Ok(()));
/// let error = testing::init(&mut plugin, r#"{ "frist": "acme/firewall" }"#).unwrap_err();
/// assert!(error.contains("unknown field `frist`, expected `first`"), "{error}");
/// ```
pub trait Lifecycle {
    /// The shape of the plugin's configuration; [`NoConfig`] for a plugin that has none. With
    /// `#[serde(deny_unknown_fields)]` a misspelt key is an error that the operator sees.
    type Config: DeserializeOwned;

    /// Called once for each new instance, before any other hook. An error keeps the plugin from becoming
    /// active, and is shown to the operator: say what is wrong and what would be right.
    ///
    /// # Errors
    /// What is wrong with the configuration, in words.
    fn init(&mut self, config: Self::Config) -> Result<(), String>;

    /// Called now and then; an error marks the plugin unhealthy, and is shown to the operator.
    ///
    /// # Errors
    /// What ails the plugin, in words.
    fn health(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// The configuration of a plugin that takes none: any key in it is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

pub(crate) fn configure<P: Lifecycle>(plugin: &mut P, config: &str) -> Result<(), String> {
    plugin.init(read(config)?)
}

/// The operator wrote TOML: what says where it is wrong is the way to the value, not the column of this JSON.
fn read<T: DeserializeOwned>(config: &str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(config);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let why = error.into_inner().to_string();
        let why = why.rsplit_once(" at line ").map_or(why.as_str(), |(why, _)| why);
        match path.as_str() {
            "." => format!("the configuration is wrong: {why}"),
            path => format!("the configuration is wrong at `{path}`: {why}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(default)]
        #[expect(dead_code, reason = "only read")]
        rules: Vec<Rule>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rule {
        #[expect(dead_code, reason = "only read")]
        port: u16,
    }

    #[test]
    fn a_wrong_value_is_named_by_the_way_to_it() {
        let cases = [
            (r#"{ "rules": [{ "port": 1 }, { "port": 70000 }] }"#, "at `rules[1].port`: invalid value"),
            (r#"{ "rules": [{ "prot": 1 }] }"#, "at `rules[0].prot`: unknown field `prot`"),
            (r#"{ "rules": [{}] }"#, "at `rules[0]`: missing field `port`"),
            (r#"{ "rules": 3 }"#, "at `rules`: invalid type"),
            (r#"{ "rulse": [] }"#, "unknown field `rulse`, expected `rules`"),
            ("3", "the configuration is wrong: invalid type"),
        ];
        for (config, wanted) in cases {
            let error = read::<Config>(config).unwrap_err();
            assert!(error.contains(wanted), "{config}: {error}");
            assert!(!error.contains("column"), "{config}: {error}");
        }
        assert!(read::<Config>("{}").is_ok());
    }
}
