//! Removing images that were made here and that nobody needs.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::query_parameters::{ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder};
use cove_core::{Result, Swept};

use super::{LABEL, look};
use crate::container::client::{CALL, Client};

/// Removes images with our label that no container uses and that were made longer ago than `age`.
/// Others' are not touched; whatever uses an image at that moment keeps it.
///
/// # Errors
/// When the engine cannot be asked. That an image could not be removed is none: the next time comes.
pub async fn collect(client: &Client, age: Duration) -> Result<Vec<Swept>> {
    collect_where(client, age, |_| true).await
}

/// Of one image only, by its id; for tests beside others.
#[doc(hidden)]
pub async fn collect_only(client: &Client, age: Duration, id: &str) -> Result<Vec<Swept>> {
    collect_where(client, age, |found| plain(found) == plain(id)).await
}

/// Podman says `sha256:` in some answers only.
fn plain(id: &str) -> &str {
    id.trim_start_matches("sha256:")
}

async fn collect_where(client: &Client, age: Duration, which: impl Fn(&str) -> bool) -> Result<Vec<Swept>> {
    let labelled = HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]);
    let options = ListImagesOptionsBuilder::new().filters(&labelled).build();
    let images = client.call("list images", CALL, client.docker.list_images(Some(options))).await?;
    let all = ListContainersOptionsBuilder::new().all(true).build();
    let containers = client.call("list containers", CALL, client.docker.list_containers(Some(all))).await?;
    let used: HashSet<&str> = containers.iter().filter_map(|c| c.image_id.as_deref().map(plain)).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let oldest = i64::try_from(now.saturating_sub(age.as_secs())).unwrap_or(i64::MAX);
    let mut swept = Vec::new();
    for image in images {
        // The filter is the engine's; this is ours.
        if !image.labels.contains_key(LABEL)
            // Without a date of its own it is the empty base, which costs nothing and is always wanted.
            || image.created <= 0
            || image.created > oldest
            || used.contains(plain(&image.id))
            || !which(&image.id)
        {
            continue;
        }
        // Not forced: an image in use, or with a name that somebody gave it, stays.
        let options = RemoveImageOptionsBuilder::new().force(false).build();
        let removal = client.docker.remove_image(&image.id, Some(options), None);
        let outcome = client.call("remove image", CALL, removal).await;
        if look(client, &image.id).await?.is_none() {
            swept.push(Swept { kind: "image".to_owned(), name: image.id });
        } else if let Err(error) = outcome
            && error.kind().retryable()
        {
            return Err(error);
        }
    }
    Ok(swept)
}
