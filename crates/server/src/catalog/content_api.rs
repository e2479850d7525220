//! Content over HTTP: manifests by digest, chunks as streams of frames, both ways.

use std::io::{self, Read};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use content::{Frame, Library};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use wire::admin_api::{DIGESTS_MAX, DigestList};
use wire::device_api::{CHUNKS_MAX, ChunkRequest};
use wire::digest::Digest;

use crate::error::{Failure, chain};
use crate::limits::{CHUNK_UPLOAD_BYTES_MAX, JSON_BYTES_MAX, MANIFEST_BYTES_MAX};
use crate::people::auth::User;
use crate::routes::{parse, read_body, read_json};
use crate::state::{AppState, blocking};

/// Frames are gathered to pieces of this size before they are sent.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait between the disk and the socket.
const PIECES_MAX: usize = 4;

/// `GET …/content/manifests/{digest}`
pub(crate) async fn manifest(
    State(state): State<AppState>,
    Path(digest): Path<String>,
) -> Result<Response, Failure> {
    let digest: Digest = parse(&digest)?;
    let library = state.library();
    let bytes = blocking(move || {
        library
            .manifest_bytes(&digest)
            .map_err(|source| Failure::Content {
                what: format!("read manifest {digest}"),
                source,
            })
    })
    .await?;
    match bytes {
        Some(bytes) => Ok(octets(Body::from(bytes))),
        None => Err(Failure::not_found(format!("manifest {digest}"))),
    }
}

/// `POST …/content/chunks` of the device API: frames in the order wanted; chunks that aren't here are left out.
pub(crate) async fn chunks(State(state): State<AppState>, body: Body) -> Result<Response, Failure> {
    let request: ChunkRequest = read_json(body, JSON_BYTES_MAX).await?;
    if request.digests.len() > CHUNKS_MAX {
        return Err(Failure::bad_request(
            "too-many-chunks",
            format!("a request has at most {CHUNKS_MAX} chunks"),
        ));
    }
    let library = state.library();
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(PIECES_MAX);
    // Ends by itself when the receiver is gone.
    let _detached = tokio::task::spawn_blocking(move || {
        if let Err(error) = send_frames(&library, &request.digests, &sender) {
            tracing::error!(error = %chain(&error), "cannot send chunks");
            // The reply must not look complete.
            let _receiver = sender.blocking_send(Err(io::Error::other("a chunk can't be read")));
        }
    });
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    Ok(octets(Body::from_stream(pieces)))
}

fn send_frames(
    library: &Library,
    digests: &[Digest],
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), content::ContentError> {
    let mut piece = Vec::with_capacity(PIECE_BYTES * 2);
    for digest in digests {
        let Some(frame) = library.frame(digest)? else {
            continue;
        };
        frame.write(&mut piece)?;
        if piece.len() >= PIECE_BYTES
            && sender
                .blocking_send(Ok(Bytes::from(std::mem::take(&mut piece))))
                .is_err()
        {
            return Ok(());
        }
    }
    if !piece.is_empty() {
        // Nobody is listening any more: nothing is lost.
        let _receiver = sender.blocking_send(Ok(Bytes::from(piece)));
    }
    Ok(())
}

/// `POST /api/v1/content/missing`
pub(crate) async fn missing(
    State(state): State<AppState>,
    body: Body,
) -> Result<Json<DigestList>, Failure> {
    let list: DigestList = read_json(body, JSON_BYTES_MAX).await?;
    if list.digests.len() > DIGESTS_MAX {
        return Err(Failure::bad_request(
            "too-many-digests",
            format!("a list has at most {DIGESTS_MAX} digests"),
        ));
    }
    let library = state.library();
    let digests = list
        .digests
        .into_iter()
        .filter(|digest| !library.contains(digest))
        .collect();
    Ok(Json(DigestList { digests }))
}

/// `PUT /api/v1/content/manifests/{digest}`
pub(crate) async fn upload_manifest(
    State(state): State<AppState>,
    Path(digest): Path<String>,
    body: Body,
) -> Result<Json<()>, Failure> {
    let digest: Digest = parse(&digest)?;
    let bytes = read_body(body, MANIFEST_BYTES_MAX).await?;
    if Digest::of(&bytes) != digest {
        return Err(Failure::bad_request(
            "wrong-digest",
            "the manifest doesn't have the digest it was sent under",
        ));
    }
    let library = state.library();
    blocking(move || {
        library
            .put_manifest(&bytes)
            .map_err(|error| bad_content("the manifest is refused", &error))
    })
    .await?;
    Ok(Json(()))
}

/// `POST /api/v1/content/chunks`: a stream of frames becomes a pack of the library, all of it or nothing.
pub(crate) async fn upload_chunks(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<()>, Failure> {
    let library = state.library();
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let storing = tokio::spawn(blocking(move || {
        store_frames(&library, UploadReader::new(receiver))
    }));
    let mut pieces = body.into_data_stream();
    let mut received = 0_u64;
    let complete = loop {
        let message = match pieces.next().await {
            Some(Ok(piece)) => {
                received += u64::try_from(piece.len()).unwrap_or(u64::MAX);
                if received > CHUNK_UPLOAD_BYTES_MAX {
                    break false;
                }
                Some(piece)
            }
            Some(Err(_)) => break false,
            None => None,
        };
        let is_end = message.is_none();
        // The other side is gone if the frames are bad: it says so below.
        if sender.send(message).await.is_err() || is_end {
            break true;
        }
    };
    drop(sender);
    let stored = storing.await.map_err(|source| Failure::System {
        what: "store chunks",
        source: source.into(),
    })?;
    if !complete && received > CHUNK_UPLOAD_BYTES_MAX {
        let message = format!("an upload has at most {CHUNK_UPLOAD_BYTES_MAX} bytes");
        return Err(Failure::refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-long",
            message,
        ));
    }
    let chunks = stored?;
    tracing::info!(
        user.name = user.name,
        chunks,
        bytes = received,
        "{chunks} chunks stored"
    );
    Ok(Json(()))
}

fn store_frames(library: &Library, mut reader: UploadReader) -> Result<u64, Failure> {
    let refused = |error: content::ContentError| bad_content("the chunks are refused", &error);
    let mut pack = library.pack_writer().map_err(|source| Failure::Content {
        what: "begin a pack".into(),
        source,
    })?;
    let mut chunks = 0;
    while let Some(frame) = Frame::read(&mut reader).map_err(refused)? {
        pack.add_frame(&frame).map_err(refused)?;
        chunks += 1;
    }
    pack.finish().map_err(|source| Failure::Content {
        what: "finish a pack".into(),
        source,
    })?;
    Ok(chunks)
}

fn bad_content(what: &str, error: &content::ContentError) -> Failure {
    Failure::refused(
        StatusCode::UNPROCESSABLE_ENTITY,
        "bad-content",
        format!("{what}: {}", chain(error)),
    )
}

fn octets(body: Body) -> Response {
    let kind = HeaderValue::from_static("application/octet-stream");
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

/// Pieces of a request's body as a blocking reader. Only an explicit end is an end: a connection that breaks is not.
struct UploadReader {
    pieces: mpsc::Receiver<Option<Bytes>>,
    piece: Bytes,
    has_ended: bool,
}

impl UploadReader {
    fn new(pieces: mpsc::Receiver<Option<Bytes>>) -> Self {
        Self {
            pieces,
            piece: Bytes::new(),
            has_ended: false,
        }
    }
}

impl Read for UploadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.has_ended {
            match self.pieces.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.has_ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = buffer.len().min(self.piece.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}
