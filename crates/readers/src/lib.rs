//! For tests alone: every reader of bytes from outside, behind one signature.
//!
//! Each takes anything, panics at nothing, and checks what must hold for what it accepted. The fuzz targets call them one
//! by one; `e2e readers` calls all of them with inputs made from the corpus by [`mutate::Mutator`], on any toolchain.

pub mod content;
pub mod device;
pub mod documents;
pub mod mutate;
pub mod server;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One reader.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    /// What it is called everywhere: the fuzz target, the folder of its corpus.
    pub name: &'static str,
    /// Reads the bytes.
    pub read: fn(&[u8]),
}

const fn reader(name: &'static str, read: fn(&[u8])) -> Reader {
    Reader { name, read }
}

/// All of them; the one that takes longest first.
pub const ALL: [Reader; 37] = [
    // what lies on sticks and disks
    reader("image", content::image),
    reader("image_ntfs", content::image_ntfs),
    reader("bundle_head", content::bundle_head),
    reader("bundle_signature", content::bundle_signature),
    reader("frame", content::frame),
    reader("manifest", content::manifest),
    reader("pack", content::pack),
    reader("patch", content::patch),
    reader("boot_sector", device::boot_sector),
    reader("journal", device::journal),
    reader("loader_conf", device::loader_conf),
    reader("partition_table", device::partition_table),
    reader("signed_image", device::signed_image),
    reader("staging_mark", device::staging_mark),
    reader("warrant", device::warrant),
    // what comes over the network, from the firmware and the TPM
    reader("command_line", device::command_line),
    reader("dhcp", device::dhcp),
    reader("signature_lists", device::signature_lists),
    reader("tpm_answer", device::tpm_answer),
    reader("check_in", server::check_in),
    reader("sealed_secret", device::sealed_secret),
    reader("events", server::events),
    reader("receipt", server::receipt),
    reader("secret_request", server::secret_request),
    // what people write, and what vendors send
    reader("asset_table", server::asset_table),
    reader("collection_rule", server::collection_rule),
    reader("database_address", server::database_address),
    reader("pupil_list", server::pupil_list),
    reader("webhook_address", server::webhook_address),
    reader("condition", documents::condition),
    reader("order", documents::order),
    reader("package", documents::package),
    reader("sequence", documents::sequence),
    // what a server keeps elsewhere
    reader("backup", server::backup),
    // what packages bring
    reader("elf", documents::elf),
    reader("module", documents::module),
    reader("uki", documents::uki),
];

/// The reader called `name`.
#[must_use]
pub fn named(name: &str) -> Option<Reader> {
    ALL.into_iter().find(|reader| reader.name == name)
}

/// Where the corpus of `reader` is kept: one input per file.
#[must_use]
pub fn corpus_folder(reader: Reader) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(reader.name)
}

/// The corpus of `reader`, in the order of the files' names.
///
/// # Errors
/// It can't be read, or is empty.
pub fn corpus(reader: Reader) -> io::Result<Vec<Vec<u8>>> {
    let folder = corpus_folder(reader);
    let mut files = fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    files.sort();
    if files.is_empty() {
        let text = format!("{} holds no input", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    files.into_iter().map(fs::read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::Mutator;

    /// Enough to see that each works; `e2e readers` takes a hundred thousand.
    const INPUTS: u64 = 200;

    #[test]
    fn no_reader_panics() {
        for reader in ALL {
            let corpus = corpus(reader).expect(reader.name);
            corpus.iter().for_each(|input| (reader.read)(input));
            let mut mutator = Mutator::new(&corpus, 1);
            for _ in 0..INPUTS {
                (reader.read)(mutator.next_input());
            }
        }
    }

    #[test]
    fn each_has_a_fuzz_target_and_nothing_else_has() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
        let mut targets: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        targets.sort();
        let mut readers: Vec<String> = ALL
            .iter()
            .map(|reader| format!("{}.rs", reader.name))
            .collect();
        readers.sort();
        assert_eq!(readers, targets);
    }
}
