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
    let config =
        serde_json::from_str(config).map_err(|error| format!("the configuration is wrong: {error}"))?;
    plugin.init(config)
}
