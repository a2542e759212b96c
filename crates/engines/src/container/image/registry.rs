//! Images of a registry: those that the engine has, else fetched by the engine with its own settings and
//! credentials.

use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptionsBuilder;
use cove_core::{Error, ErrorKind, Result};
use oci_client::Reference;

use super::{DELIVERY, Image, described, drained, look};
use crate::container::client::{self, Client};
use crate::images::{Images, architecture};

pub(super) async fn ensure(client: &Client, images: &Images, reference: &str) -> Result<Image> {
    let wanted = parse(reference)?;
    if let Some(found) = look(client, &wanted.whole).await? {
        return fitting(client, reference, found);
    }
    let _one_at_a_time = images.lock(&format!("pull-{}", sha(&wanted.whole))).await?;
    if let Some(found) = look(client, &wanted.whole).await? {
        return fitting(client, reference, found);
    }
    let options = CreateImageOptionsBuilder::new().from_image(&wanted.repository).tag(&wanted.tag).build();
    let told = client.docker.create_image(Some(options), None, None);
    client.call("pull image", DELIVERY, drained(told)).await.map_err(|error| {
        Error::new(error.kind(), format!("The image {reference} cannot be fetched")).because(error).next(format!(
            "See what the engine says: {} pull {}",
            client.engine(),
            wanted.whole
        ))
    })?;
    // An answer without an error is a hint only.
    let found = look(client, &wanted.whole).await?.ok_or_else(|| {
        let engine = client::name(client.engine());
        Error::not_found(format!("{engine} said that it fetched the image {reference} and does not have it"))
    })?;
    fitting(client, reference, found)
}

/// A reference as engines want it: split, with a tag, because without one they fetch them all.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    repository: String,
    /// Or the digest.
    tag: String,
    whole: String,
}

fn parse(reference: &str) -> Result<Wanted> {
    let invalid = || Error::invalid(format!("{reference:?} is not an image reference"));
    let step = "Write it as [host[:port]/]name[:tag][@digest]";
    let parsed: Reference = reference.parse().map_err(|e| invalid().because(e).next(step))?;
    // An image's id, which the engine knows and no registry does, reads like a name.
    let bare = reference.strip_prefix("sha256:");
    if bare.is_some_and(|id| id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Err(invalid().next("Name the image instead of its id"));
    }
    if parsed.repository().bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(invalid().next("Names of images are written in lower case"));
    }
    let repository = format!("{}/{}", parsed.registry(), parsed.repository());
    Ok(match (parsed.digest(), parsed.tag()) {
        (Some(digest), _) => Wanted { whole: format!("{repository}@{digest}"), tag: digest.to_owned(), repository },
        (None, tag) => {
            let tag = tag.unwrap_or("latest").to_owned();
            Wanted { whole: format!("{repository}:{tag}"), tag, repository }
        }
    })
}

fn sha(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}

/// Refuses images that this machine cannot run.
fn fitting(client: &Client, reference: &str, found: ImageInspect) -> Result<Image> {
    let ours = architecture();
    let os = found.os.clone().unwrap_or_default();
    let theirs = found.architecture.clone().unwrap_or_default();
    // What does not say (made by hand) is given a chance.
    if !(os.is_empty() || os == "linux") || !(theirs.is_empty() || theirs == ours) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("The image {reference} is made for {os}/{theirs}, and this machine is linux/{ours}"),
        )
        .next(format!("{} pull --platform linux/{ours} {reference}", client.engine())));
    }
    described(found).ok_or_else(|| {
        Error::internal(format!("{} does not say which image {reference} is", client::name(client.engine())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_one_image() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, repository, tag) in [
            ("alpine", "docker.io/library/alpine", "latest"),
            ("alpine:3.20", "docker.io/library/alpine", "3.20"),
            ("localhost/tools", "localhost/tools", "latest"),
            ("host.example:5000/a/b:c", "host.example:5000/a/b", "c"),
            (&format!("alpine@{digest}"), "docker.io/library/alpine", &digest),
            (&format!("alpine:3@{digest}"), "docker.io/library/alpine", &digest),
        ] {
            let wanted = parse(text).unwrap();
            assert_eq!((wanted.repository.as_str(), wanted.tag.as_str()), (repository, tag), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let id = format!("sha256:{}", "a".repeat(64));
        for text in ["", "UPPER/case", "a b", "../x", "a:b:c", "--privileged", "x\n", &id, "a?fromSrc=-", "http://x/y"]
        {
            assert_eq!(parse(text).unwrap_err().kind(), ErrorKind::Invalid, "{text:?}");
        }
    }
}
