package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// piece is how much of a record is read or written at once, in bytes.
const piece = 4 << 20

// maxInput is how much is taken from a source whose length is not known.
const maxInput = 64 << 20

func (f *storeFlags) readCommand() *cobra.Command {
	var offset, size uint64
	var latest bool
	cmd := &cobra.Command{
		Use:   "read KEY",
		Short: "Write a record to the standard output",
		Long: `Write a record to the standard output, from the first of the groups that has it,
or with --latest from the one with the newest timestamp. With --json the record
comes with its timestamp and user flags, and its data in base64.`,
		Args: cobra.ExactArgs(1),
		RunE: f.run(func(cmd *cobra.Command, _ *elliptics.Node, s *elliptics.Session, args []string) error {
			key, err := f.key(s, args[0])
			if err != nil {
				return err
			}
			read := s.Read
			if latest {
				read = s.ReadLatest
			}
			first, err := read(cmd.Context(), key, offset, part(0, size))
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			var whole bytes.Buffer
			if f.json {
				out = &whole
			}
			if err := copyRecord(cmd.Context(), s.WithGroups(first.Group), key, out, first, offset, size); err != nil {
				return err
			}
			if !f.json {
				return nil
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
				ID        string `json:"id"`
				Group     uint32 `json:"group"`
				Timestamp string `json:"timestamp"`
				UserFlags uint64 `json:"user_flags"`
				TotalSize uint64 `json:"total_size"`
				Data      []byte `json:"data"`
			}{key.String(), first.Group, when(first.Timestamp), first.UserFlags, first.TotalSize, whole.Bytes()})
		}),
	}
	cmd.Flags().Uint64Var(&offset, "offset", 0, "first `byte` to read")
	cmd.Flags().Uint64Var(&size, "size", 0, "`bytes` to read (default: to the end)")
	cmd.Flags().BoolVar(&latest, "latest", false, "ask all groups and read the newest")
	return cmd
}

// part is how much to ask for when done bytes of size (0: all) are there.
func part(done, size uint64) uint64 {
	if size == 0 {
		return piece
	}
	return min(piece, size-done)
}

// copyRecord writes first and what follows it in the record, in pieces.
func copyRecord(ctx context.Context, s *elliptics.Session, key elliptics.Key, w io.Writer, first *elliptics.Record, offset, size uint64) error {
	r, done := first, uint64(0)
	for {
		if r.Timestamp != first.Timestamp || r.TotalSize != first.TotalSize {
			return fmt.Errorf("record %s was changed while it was read; read it again", key.Short())
		}
		if _, err := w.Write(r.Data); err != nil {
			return err
		}
		done += uint64(len(r.Data))
		got := len(r.Data)
		r.Release()
		if got == 0 || offset+done >= first.TotalSize || size > 0 && done >= size {
			return nil
		}
		var err error
		if r, err = s.Read(ctx, key, offset+done, part(done, size)); err != nil {
			return err
		}
	}
}

func (f *storeFlags) writeCommand() *cobra.Command {
	var userFlags uint64
	var appending bool
	cmd := &cobra.Command{
		Use:   "write KEY [FILE]",
		Short: "Write a record from a file or the standard input",
		Long: `Write a record to all groups, from a file of any size or from the standard input
(up to 64 MiB). A record that is there is replaced. A large file is written in
pieces; until the last one the record cannot be read.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: f.run(func(cmd *cobra.Command, _ *elliptics.Node, s *elliptics.Session, args []string) error {
			key, err := f.key(s, args[0])
			if err != nil {
				return err
			}
			src, size, err := source(cmd, args[1:])
			if err != nil {
				return err
			}
			defer src.Close()
			s = s.WithUserFlags(userFlags)
			var results []elliptics.GroupResult
			if appending {
				if size > maxInput {
					return fmt.Errorf("--append: %d bytes; at most %d can be appended at once", size, maxInput)
				}
				data, rerr := io.ReadAll(io.LimitReader(src, int64(size)))
				if rerr != nil {
					return rerr
				}
				results, err = s.Append(cmd.Context(), key, data)
			} else {
				results, err = s.WriteChunked(cmd.Context(), key, src, size, piece)
			}
			return errors.Join(f.results(cmd, key, results, false), err)
		}),
	}
	cmd.Flags().Uint64Var(&userFlags, "user-flags", 0, "64 bits to store with the record, as a `number`")
	cmd.Flags().BoolVar(&appending, "append", false, "add to the end of the record")
	return cmd
}

// source is the FILE argument, or the standard input, and its length.
func source(cmd *cobra.Command, args []string) (io.ReadCloser, uint64, error) {
	if len(args) == 0 || args[0] == "-" {
		data, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxInput+1))
		if err != nil {
			return nil, 0, err
		}
		if len(data) > maxInput {
			return nil, 0, fmt.Errorf("the standard input has more than %d bytes; give a FILE", maxInput)
		}
		return io.NopCloser(bytes.NewReader(data)), uint64(len(data)), nil
	}
	file, err := os.Open(args[0])
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", args[0])
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, uint64(info.Size()), nil
}

// results prints what became of an operation in each group.
func (f *storeFlags) results(cmd *cobra.Command, key elliptics.Key, results []elliptics.GroupResult, checksum bool) error {
	if len(results) == 0 {
		return nil
	}
	t := f.table(cmd.OutOrStdout(), "GROUP\tSIZE\tTIMESTAMP\tSERVER\tPATH")
	for _, r := range results {
		doc := struct {
			ID        string `json:"id"`
			Group     uint32 `json:"group"`
			Size      uint64 `json:"size"`
			Timestamp string `json:"timestamp,omitempty"`
			Server    string `json:"server,omitempty"`
			Path      string `json:"path,omitempty"`
			Checksum  string `json:"checksum,omitempty"`
			Error     string `json:"error,omitempty"`
		}{ID: key.String(), Group: r.Group, Size: r.Info.Size, Error: failed(r.Err)}
		if r.Err != nil {
			if err := t.row(doc, "%d\t-\t-\t-\t%v", r.Group, r.Err); err != nil {
				return err
			}
			continue
		}
		doc.Timestamp, doc.Server, doc.Path = when(r.Info.Timestamp), r.Info.Addr.String(), r.Info.Path
		tail := ""
		if checksum {
			doc.Checksum = hex.EncodeToString(r.Info.Checksum[:])
			tail = "\tsha512:" + doc.Checksum
		}
		if err := t.row(doc, "%d\t%d\t%s\t%s\t%s%s", r.Group, doc.Size, doc.Timestamp, doc.Server, doc.Path, tail); err != nil {
			return err
		}
	}
	return t.end()
}

func (f *storeFlags) lookupCommand() *cobra.Command {
	var checksum bool
	cmd := &cobra.Command{
		Use:   "lookup KEY",
		Short: "Tell where a record is in each group, its size and its timestamp",
		Long: `Tell where a record is in each group, its size and its timestamp. It fails when
no group has the record. An empty record, which can be read, counts as missing.`,
		Args: cobra.ExactArgs(1),
		RunE: f.run(func(cmd *cobra.Command, _ *elliptics.Node, s *elliptics.Session, args []string) error {
			key, err := f.key(s, args[0])
			if err != nil {
				return err
			}
			s = s.WithChecker(elliptics.One)
			lookup := s.LookupAll
			if checksum {
				lookup = s.LookupChecksum
			}
			results, err := lookup(cmd.Context(), key)
			if !f.json && len(results) > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "id %s\n", key)
			}
			return errors.Join(f.results(cmd, key, results, checksum), err)
		}),
	}
	cmd.Flags().BoolVar(&checksum, "checksum", false, "have each server compute the SHA-512 of its copy")
	return cmd
}

func (f *storeFlags) removeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove KEY...",
		Short: "Remove records from all groups",
		Long: `Remove records from all groups. Elliptics keeps no trace of removed records: a
group that is away keeps its copy. A group that does not have a record is no
error, unless none has it.`,
		Args: cobra.MinimumNArgs(1),
		RunE: f.run(func(cmd *cobra.Command, _ *elliptics.Node, s *elliptics.Session, args []string) error {
			var errs []error
			for _, arg := range args {
				key, err := f.key(s, arg)
				if err != nil {
					return err
				}
				results, err := s.WithChecker(elliptics.All).Remove(cmd.Context(), key)
				if err != nil && !elliptics.Missing(err) {
					err = notMissing(key, results)
				}
				if err != nil {
					errs = append(errs, err)
				} else if f.json {
					errs = append(errs, json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"removed": key.String()}))
				}
			}
			return errors.Join(errs...)
		}),
	}
}

// notMissing is the error of a removal without the groups that had no record.
func notMissing(key elliptics.Key, results []elliptics.GroupResult) error {
	var errs []error
	for _, r := range results {
		if r.Err != nil && !errors.Is(r.Err, wire.ErrNotFound) {
			errs = append(errs, fmt.Errorf("%s may still be in group %d: %w", key.Short(), r.Group, r.Err))
		}
	}
	return errors.Join(errs...)
}
