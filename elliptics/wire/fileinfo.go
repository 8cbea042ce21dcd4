package wire

// FileInfoSize is the length of an answer with an empty path, in bytes: the
// address, the structure and no path.
const FileInfoSize = AddrSize + 112

// FileInfo is the payload of LOOKUP and WRITE answers: where a record is and
// what it looks like.
type FileInfo struct {
	Addr        Addr // first advertised address of the node that holds the record
	Checksum    [64]byte
	RecordFlags uint64
	Size        uint64 // of the record; unreliable in answers to WRITE
	Offset      uint64 // of the data in the blob file
	Timestamp   Time
	Path        string // of the blob file on the server; empty when its cache answered
}

// Append writes the answer to dst: address, structure, and the path with its
// NUL. An empty path is sent as one NUL with length 0, as a cache's answer is.
func (f *FileInfo) Append(dst []byte) []byte {
	dst = append(dst, f.Addr[:]...)
	flen := uint32(0)
	if f.Path != "" {
		flen = uint32(len(f.Path)) + 1
	}
	dst = le.AppendUint32(dst, flen)
	dst = append(dst, f.Checksum[:]...)
	dst = le.AppendUint32(dst, 0) // the hole of a naturally aligned structure
	dst = le.AppendUint64(dst, f.RecordFlags)
	dst = le.AppendUint64(dst, f.Size)
	dst = le.AppendUint64(dst, f.Offset)
	dst = le.AppendUint64(dst, f.Timestamp.Sec)
	dst = le.AppendUint64(dst, f.Timestamp.Nsec)
	dst = append(dst, f.Path...)
	return append(dst, 0)
}

// Decode reads the answer from the whole of src.
func (f *FileInfo) Decode(src []byte) error {
	if len(src) < FileInfoSize {
		return short("file info", len(src), FileInfoSize)
	}
	copy(f.Addr[:], src)
	flen := le.Uint32(src[32:])
	copy(f.Checksum[:], src[36:])
	f.RecordFlags = le.Uint64(src[104:])
	f.Size = le.Uint64(src[112:])
	f.Offset = le.Uint64(src[120:])
	f.Timestamp = Time{le.Uint64(src[128:]), le.Uint64(src[136:])}
	path := src[FileInfoSize:]
	f.Path = ""
	if flen == 0 {
		return nil
	}
	if uint64(flen) > uint64(len(path)) {
		return malformed("file info announces a path of %d bytes, %d follow", flen, len(path))
	}
	path = path[:flen]
	for i, c := range path {
		if c == 0 {
			path = path[:i]
			break
		}
	}
	f.Path = string(path)
	return nil
}
