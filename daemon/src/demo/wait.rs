//! Bounded waiting: every wait of the demo has an end and names what it waited for.

use std::time::{Duration, Instant};

use crate::exit::{Exit, Failure, Outcome};

/// How often the state waited for is looked at: far below a second, far above what a look costs.
const POLL: Duration = Duration::from_millis(50);

/// Looks until `look` gives something, at most for `patience`. A failure of `look` ends the wait.
pub(crate) async fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Outcome<Option<T>>,
) -> Outcome<T> {
    let start = Instant::now();
    let give_up = || {
        let seconds = patience.as_secs();
        Failure::new(Exit::Timeout, format!("Waited {seconds} s in vain until {what}."))
    };
    loop {
        let left = patience.checked_sub(start.elapsed()).ok_or_else(give_up)?;
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) => tokio::time::sleep(POLL).await,
            Ok(Err(failure)) => return Err(failure),
            Err(_) => return Err(give_up()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn waiting_ends_either_way() {
        let mut looks = 0;
        let found = until("three looks", Duration::from_secs(5), async || {
            looks += 1;
            Ok((looks == 3).then_some("found"))
        });
        assert_eq!(found.await.unwrap(), "found");
        let never = until::<()>("never", Duration::from_millis(60), async || Ok(None)).await.unwrap_err();
        assert!(never.exit == Exit::Timeout && never.message.contains("never"));
        let stuck = until::<()>("stuck", Duration::from_millis(60), async || {
            std::future::pending::<()>().await;
            Ok(None)
        });
        assert_eq!(stuck.await.unwrap_err().exit, Exit::Timeout);
    }
}
