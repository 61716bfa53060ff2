//! What `status` and `top` take.

use clap::Args;

/// Options of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// List the other members that this node knows of: connected or not, how far, when last heard of
    #[arg(long)]
    pub(crate) peers: bool,
}

/// Options of `top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Seconds between two pictures
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) interval: f64,
    /// Stop after so many pictures [default: on a terminal none, until Ctrl-C; elsewhere 1]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u32>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.1..=3600.0).contains(&value) { Ok(value) } else { Err("0.1 to 3600 seconds are allowed".to_owned()) }
}
