// Package publish imports images of the old registry (package v1) into today's:
// it turns each layer into a blob, what the images say about themselves into a
// configuration with its history, and writes a manifest and a tag, all through
// Distribution's own storage.
//
// The work has two steps. Plan looks at tags, descriptions and sizes; Run reads
// layers. What was done is remembered in the target (state.go), so that another
// run goes on where one ended, and does nothing where nothing is to be done.
// What is wrong with an image fails that image and no other. Nothing is ever
// written to the source.
//
// The package knows nothing of keys, groups or indexes; that is v1's.
package publish
