// Package v1 is the storage of docker-registry 0.9 with its Elliptics driver:
// the files of the Python registry, which holds images of Docker's first
// format. Store reads and writes them exactly as that driver did, so that both
// can work on one cluster during a move; Image and Chain say what the files
// mean.
//
// A file is one record whose key is its path, in the driver's namespace. It
// carries two secondary indexes, `docker` and the path of its directory, with
// the key as their data; a directory is listed by intersecting them. Each
// directory is a record with the content `DIRECTORY`, tagged in the same way.
// An empty file has the content `EMPTY`.
//
// Package publish turns these images into ones of today. Nothing here knows of
// Distribution or of package layout, and nothing that keeps today's images
// depends on this package.
package v1
