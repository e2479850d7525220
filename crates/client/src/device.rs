//! The calls of devices. See [`wire::device_api`].

use std::io::Read;

use wire::device_api::{
    Challenge, CheckIn, CheckInReply, ChunkRequest, EventAck, EventBatch, PatchList, PatchOffer,
    SealedSecret, SecretRequest,
};
use wire::digest::Digest;
use wire::names::RunId;

use crate::MANIFEST_BYTES_MAX;
use crate::connection::Client;
use crate::error::ClientError;

impl Client {
    /// Device API: a challenge to sign.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn challenge(&self) -> Result<Challenge, ClientError> {
        self.send("POST", "/device/v1/challenge", &())
    }

    /// Device API: check in.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn check_in(&self, check_in: &CheckIn) -> Result<CheckInReply, ClientError> {
        self.send("POST", "/device/v1/check-in", check_in)
    }

    /// Device API: send events.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn events(&self, run: RunId, batch: &EventBatch) -> Result<EventAck, ClientError> {
        self.send("POST", &format!("/device/v1/runs/{run}/events"), batch)
    }

    /// Device API: a secret that a step of this run needs, sealed to the key that is named in the request.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn secret(&self, run: RunId, request: &SecretRequest) -> Result<SealedSecret, ClientError> {
        self.send("POST", &format!("/device/v1/runs/{run}/secrets"), request)
    }

    /// Device API: the bytes of a manifest. At most [`MANIFEST_BYTES_MAX`].
    ///
    /// # Errors
    /// See [`ClientError`]. The digest is not checked here: whoever uses the bytes does that on what is used.
    pub fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, ClientError> {
        self.get_bytes(
            &format!("/device/v1/content/manifests/{digest}"),
            MANIFEST_BYTES_MAX,
        )
    }

    /// Device API: the patches that lead to a manifest. A server that knows none, or nothing of patches, has an empty list.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn patches(&self, to: &Digest) -> Result<Vec<PatchOffer>, ClientError> {
        let path = format!("/device/v1/content/manifests/{to}/patches");
        match self.get::<PatchList>(&path) {
            Ok(list) => Ok(list.patches),
            Err(ClientError::Refused { status: 404, .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Device API: `bytes` bytes of a patch from `offset` on, as a stream.
    ///
    /// # Errors
    /// See [`ClientError`]. A connection that breaks ends the stream with an error.
    pub fn patch(
        &self,
        from: &Digest,
        to: &Digest,
        offset: u64,
        bytes: u64,
    ) -> Result<Box<dyn Read + Send>, ClientError> {
        let path = format!("/device/v1/content/manifests/{to}/patches/{from}");
        self.get_range(&path, offset, bytes)
    }

    /// Device API: frames of chunks, as a stream. At most `CHUNKS_MAX` digests.
    ///
    /// # Errors
    /// See [`ClientError`]. A connection that breaks ends the stream with an error.
    pub fn chunks(&self, digests: &[Digest]) -> Result<Box<dyn Read + Send>, ClientError> {
        self.post_for_stream(
            "/device/v1/content/chunks",
            &ChunkRequest {
                digests: digests.to_vec(),
            },
        )
    }
}
