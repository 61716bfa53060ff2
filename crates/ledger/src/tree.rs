//! The authenticated tree: a Jellyfish Merkle tree over BLAKE3, one version a height, all versions in memory. The only
//! file that names `jmt`.

use std::collections::BTreeMap;

use jmt::{
    JellyfishMerkleTree, KeyHash, OwnedValue, SimpleHasher, Version,
    proof::SparseMerkleProof,
    storage::{LeafNode, Node, NodeKey, TreeReader},
};
use serde::Deserialize;
use zero2ai_proto::{ByteBuf, Digest, decode, encode, limits::SIGNED_BYTES, proof::StateProof};

use crate::error::LedgerError;

/// BLAKE3 as `jmt` wants its hash function: `jmt` accepts an older `digest` than `blake3` implements.
struct Blake3(blake3::Hasher);

impl SimpleHasher for Blake3 {
    fn new() -> Self {
        Self(blake3::Hasher::new())
    }
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
    fn finalize(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// Value a key has had since a version, until the next entry; ascending by version.
type History = Vec<(Version, Option<OwnedValue>)>;

#[derive(Default)]
struct Nodes {
    nodes: BTreeMap<NodeKey, Node>,
    values: BTreeMap<KeyHash, History>,
}

impl TreeReader for Nodes {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        Ok(self.nodes.get(key).cloned())
    }

    fn get_value_option(&self, max_version: Version, key: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        let history = self.values.get(&key).map_or(&[][..], Vec::as_slice);
        let until = history.partition_point(|(version, _)| *version <= max_version);
        Ok(until.checked_sub(1).and_then(|i| history[i].1.clone()))
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        anyhow::bail!("only a tree that is being restored asks for its rightmost leaf, and this one never is")
    }
}

/// The tree, and the root of every version: `roots[height - base]`. Inside, versions count from 0.
#[derive(Default)]
pub(crate) struct Tree {
    nodes: Nodes,
    roots: Vec<Digest>,
    /// Height of the first version: 0, or that of the snapshot that it began with.
    base: u64,
}

impl Tree {
    /// An empty tree whose first version will be that of height `base`.
    pub(crate) fn from_height(base: u64) -> Self {
        Self { base, ..Self::default() }
    }

    /// Height of the first version.
    pub(crate) const fn base(&self) -> u64 {
        self.base
    }

    /// Which version `height` is, if it is there.
    fn version(&self, height: u64) -> Option<Version> {
        height.checked_sub(self.base).filter(|version| *version < self.roots.len() as u64)
    }

    /// Writes the next version, in which keys without a value are gone, and returns its root. Nothing changes if it fails.
    pub(crate) fn commit<'a>(
        &mut self,
        writes: impl IntoIterator<Item = (&'a Vec<u8>, Option<&'a Vec<u8>>)>,
    ) -> Result<Digest, LedgerError> {
        let version = self.roots.len() as Version;
        let values = writes.into_iter().map(|(k, v)| (key_hash(k), v.cloned()));
        let (root, batch) = JellyfishMerkleTree::<_, Blake3>::new(&self.nodes)
            .put_value_set(values, version)
            .map_err(|e| LedgerError::Tree(format!("{e:#}")))?;
        let batch = batch.node_batch;
        self.nodes.nodes.extend(batch.nodes().iter().map(|(k, n)| (k.clone(), n.clone())));
        for ((version, key), value) in batch.values() {
            self.nodes.values.entry(*key).or_default().push((*version, value.clone()));
        }
        self.roots.push(Digest(root.0));
        Ok(Digest(root.0))
    }

    /// The root after `height`.
    pub(crate) fn root(&self, height: u64) -> Option<Digest> {
        usize::try_from(self.version(height)?).ok().and_then(|v| self.roots.get(v)).copied()
    }

    /// What `key` was after `height`.
    pub(crate) fn value(&self, key: &[u8], height: u64) -> Result<Option<Vec<u8>>, LedgerError> {
        let version = self.version(height).ok_or_else(|| self.unknown(height))?;
        self.nodes.get_value_option(version, key_hash(key)).map_err(|e| LedgerError::Tree(format!("{e:#}")))
    }

    fn unknown(&self, asked: u64) -> LedgerError {
        let head = self.base.saturating_add((self.roots.len() as u64).saturating_sub(1));
        LedgerError::UnknownHeight { asked, base: self.base, head }
    }

    /// Proves what `key` is, or that it is not, under the root after `height`.
    pub(crate) fn prove(&self, key: &[u8], height: u64) -> Result<StateProof, LedgerError> {
        let version = self.version(height).ok_or_else(|| self.unknown(height))?;
        let (value, proof) = JellyfishMerkleTree::<_, Blake3>::new(&self.nodes)
            .get_with_proof(key_hash(key), version)
            .map_err(|e| LedgerError::Tree(format!("{e:#}")))?;
        let path = Path::read(&proof)?;
        Ok(StateProof {
            key: ByteBuf::from(key),
            value: value.map(ByteBuf::from),
            leaf: path.leaf.map(|l| (Digest(l.key_hash), Digest(l.value_hash))),
            siblings: path.siblings.iter().map(Sibling::hash).collect(),
        })
    }
}

fn key_hash(key: &[u8]) -> KeyHash {
    KeyHash(*blake3::hash(key).as_bytes())
}

/// A `jmt` proof as it serialises itself: its own fields are private, and its sibling hashes are what we carry.
#[derive(Deserialize, serde::Serialize)]
struct Path {
    leaf: Option<Leaf>,
    siblings: Vec<Sibling>,
    phantom_hasher: (),
}

#[derive(Deserialize, serde::Serialize)]
struct Leaf {
    key_hash: [u8; 32],
    value_hash: [u8; 32],
}

#[derive(Deserialize, serde::Serialize)]
enum Sibling {
    Null,
    Internal { left_child: [u8; 32], right_child: [u8; 32] },
    Leaf { key_hash: [u8; 32], value_hash: [u8; 32] },
}

impl Path {
    fn read(proof: &SparseMerkleProof<Blake3>) -> Result<Self, LedgerError> {
        // At most 256 siblings of two hashes each, every byte of them up to two in CBOR: 33 KiB and a little.
        Ok(decode(&encode(proof)?, 2 * SIGNED_BYTES)?)
    }
}

impl Sibling {
    fn hash(&self) -> Digest {
        use crate::light::state::{EMPTY, inner_hash, leaf_hash};
        match self {
            Self::Null => EMPTY,
            Self::Internal { left_child, right_child } => inner_hash(&Digest(*left_child), &Digest(*right_child)),
            Self::Leaf { key_hash, value_hash } => leaf_hash(&Digest(*key_hash), &Digest(*value_hash)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::light::verify_state;

    type State = BTreeMap<Vec<u8>, Vec<u8>>;

    fn commit(tree: &mut Tree, writes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Digest {
        tree.commit(writes.iter().map(|(key, value)| (key, value.as_ref()))).unwrap()
    }

    /// The same for what is there alone, in a tree of its own.
    fn fresh(state: &State) -> Digest {
        commit(&mut Tree::default(), &state.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect())
    }

    proptest! {
        /// A root tells what is there and nothing of how it came about: else a node that began with a snapshot would be another's enemy.
        #[test]
        fn a_root_is_that_of_what_is_left(
            steps in proptest::collection::vec(proptest::collection::btree_map(0u8..24, proptest::option::of(0u8..4), 1..9), 1..24),
        ) {
            let (mut tree, mut state) = (Tree::default(), State::from([(b"always".to_vec(), vec![1])]));
            commit(&mut tree, &BTreeMap::from([(b"always".to_vec(), Some(vec![1]))]));
            for (height, step) in (1u64..).zip(steps) {
                let mut writes = BTreeMap::new();
                for (key, value) in step {
                    let key = vec![key];
                    match value {
                        Some(value) => drop(state.insert(key.clone(), vec![value])),
                        None if state.remove(&key).is_none() => continue,
                        None => {}
                    }
                    writes.insert(key, value.map(|value| vec![value]));
                }
                let root = commit(&mut tree, &writes);
                prop_assert_eq!(root, fresh(&state));
                for key in 0u8..24 {
                    let proof = tree.prove(&[key], height).unwrap();
                    let expected = state.get([key].as_slice()).map(Vec::as_slice);
                    prop_assert_eq!(verify_state(&root, &proof), Ok(expected));
                    let value = tree.value(&[key], height).unwrap();
                    prop_assert_eq!(value.as_deref(), expected);
                }
            }
        }
    }
}
