// Package bundle is the format of an edition: articles to blocks, and back.
//
// [Pack] takes articles and returns the content-addressed blocks of one
// edition: a UnixFS folder of encrypted layers (front page, texts, images), the
// log's leaf hashes, root notes and grants. A [Volume] opens an edition from
// whatever blocks somebody holds and says which ones it still needs. It is all
// bytes to bytes: no network, no disk. FORMAT.md in this folder specifies every
// byte.
//
// Who may say which edition is new is bundle/channel's matter; how blocks
// travel in one file, bundle/car's; how they travel in DNS answers,
// bundle/record's.
package bundle
