//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// chaosClient pushes, pulls, tags and deletes images in a repository of its
// own, one after the other, and remembers what must be there. What was refused,
// or was not answered, may have happened or not; the client remembers both.
type chaosClient struct {
	repo       string
	registries []string
	random     *rand.Rand
	http       *http.Client
	images     []*image
	tags       map[string][]*image // what a tag may stand for; nil: nothing
	begun      time.Time
	sent       int64   // bytes
	rate       float64 // bytes a second that it pushes at most
	tally      tally
	fault      *atomic.Pointer[string] // what is broken now
}

// tally counts what was acknowledged and what was refused or broken off, of each
// kind, and under each fault.
type tally map[string]*outcome

type outcome struct{ ok, refused int }

func (o outcome) String() string { return fmt.Sprintf("%d, refused %d", o.ok, o.refused) }

func (a tally) count(what string, ok, refused int) {
	if a[what] == nil {
		a[what] = &outcome{}
	}
	a[what].ok += ok
	a[what].refused += refused
}

// count notes how an operation ended, and what was broken meanwhile.
func (c *chaosClient) count(what string, ok bool) {
	for _, w := range []string{what, "during: " + *c.fault.Load()} {
		if ok {
			c.tally.count(w, 1, 0)
		} else {
			c.tally.count(w, 0, 1)
		}
	}
	if !ok { // as somebody who tries again
		time.Sleep(100 * time.Millisecond)
	}
}

type image struct {
	digest   string
	manifest []byte
	blobs    []blobSource // the first is the configuration
	state    imageState
}

type imageState int

const (
	there imageState = iota
	gone
	perhaps // nobody knows
)

// blobSource makes the same bytes again.
type blobSource struct {
	seed   [32]byte
	size   int64
	digest string
}

func (b blobSource) content() io.Reader { return io.LimitReader(rand.NewChaCha8(b.seed), b.size) }

const manifestType = "application/vnd.oci.image.manifest.v1+json"

// patience is longer than the registry's own: a request that a client gave up
// could still change something, long after.
const patience = 3 * time.Minute

func newChaosClient(number int, seed uint64, registries []string, rate float64, fault *atomic.Pointer[string]) *chaosClient {
	return &chaosClient{
		repo:       fmt.Sprintf("chaos/client%d", number),
		registries: registries,
		random:     rand.New(rand.NewPCG(seed, uint64(number)+1)),
		http:       &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}},
		tags:       make(map[string][]*image),
		begun:      time.Now(),
		rate:       rate,
		tally:      make(tally),
		fault:      fault,
	}
}

// on is the client with what it remembers, for another registry.
func (c *chaosClient) on(p *process) *chaosClient {
	other := *c
	other.registries = []string{p.addr}
	return &other
}

// run works until it is told to stop. An error is a broken promise.
func (c *chaosClient) run(stop chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		var err error
		switch n := c.random.IntN(20); {
		case n < 7:
			c.push()
		case n < 14:
			err = c.pull()
		case n < 17:
			c.retag()
		case n < 18:
			err = c.delete(true)
		default:
			err = c.delete(false)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.repo, err)
		}
		ahead := time.Duration(float64(c.sent)/c.rate*float64(time.Second)) - time.Since(c.begun)
		time.Sleep(min(max(ahead, 5*time.Millisecond), time.Second))
	}
}

// answer is what a registry said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// errUnanswered: the request may have been executed, or may not.
var errUnanswered = errors.New("unanswered")

func (c *chaosClient) do(method, path string, body io.Reader, contentType string) (answer, error) {
	if !strings.HasPrefix(path, "/") { // a Location: any registry can go on with it
		l, err := url.Parse(path)
		if err != nil {
			return answer{}, err
		}
		path = l.RequestURI()
	}
	var resp *http.Response
	var err error
	// One that does not take connections has done nothing: the next is asked,
	// as a load balancer would.
	for _, i := range c.random.Perm(len(c.registries)) {
		var req *http.Request
		if req, err = http.NewRequest(method, "http://"+c.registries[i]+path, body); err != nil {
			return answer{}, err
		}
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Accept", manifestType)
		if resp, err = c.http.Do(req); !errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
	}
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", errUnanswered, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", errUnanswered, err)
	}
	return answer{resp.StatusCode, resp.Header, b}, nil
}

func (c *chaosClient) path(kind, name string) string {
	return "/v2/" + c.repo + "/" + kind + "/" + name
}

func (c *chaosClient) newBlob(size int64) blobSource {
	b := blobSource{size: size}
	for i := range b.seed {
		b.seed[i] = byte(c.random.UintN(256))
	}
	h := sha256.New()
	_, _ = io.Copy(h, b.content())
	b.digest = "sha256:" + hex.EncodeToString(h.Sum(nil))
	return b
}

// newImage has a layer or two: small ones, as large as an inline record at
// most, and now and then one of several chunks.
func (c *chaosClient) newImage() *image {
	i := &image{blobs: []blobSource{c.newBlob(200 + c.random.Int64N(3000))}}
	for range 1 + c.random.IntN(2) {
		size := c.random.Int64N(60 << 10)
		switch n := c.random.IntN(25); {
		case n == 0:
			size = 3<<20 + c.random.Int64N(6<<20)
		case n < 7:
			size = 64<<10 + c.random.Int64N(512<<10)
		}
		i.blobs = append(i.blobs, c.newBlob(size))
	}
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int64  `json:"size"`
	}
	m := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}{SchemaVersion: 2, MediaType: manifestType}
	for n, b := range i.blobs {
		if n == 0 {
			m.Config = descriptor{"application/vnd.oci.image.config.v1+json", b.digest, b.size}
		} else {
			m.Layers = append(m.Layers, descriptor{"application/vnd.oci.image.layer.v1.tar", b.digest, b.size})
		}
	}
	i.manifest, _ = json.Marshal(m)
	sum := sha256.Sum256(i.manifest)
	i.digest = "sha256:" + hex.EncodeToString(sum[:])
	return i
}

// push pushes an image under a tag, in part to the one registry and in part to
// the other.
func (c *chaosClient) push() {
	i := c.newImage()
	for _, b := range i.blobs {
		if !c.pushBlob(b) {
			c.count("push", false)
			return
		}
		c.sent += b.size
	}
	i.state = perhaps
	c.images = append(c.images, i)
	c.count("push", c.putTag(c.randomTag(), i))
}

func (c *chaosClient) pushBlob(b blobSource) bool {
	a, err := c.do("POST", c.path("blobs", "uploads/"), nil, "")
	if err != nil || a.status != http.StatusAccepted {
		return false
	}
	r := b.content()
	for left := b.size; left > 0; {
		n := left
		if c.random.IntN(2) == 0 { // in several requests
			n = min(left, 1+c.random.Int64N(5<<20))
		}
		a, err = c.do("PATCH", a.header.Get("Location"), io.LimitReader(r, n), "application/octet-stream")
		if err != nil || a.status != http.StatusAccepted {
			return false
		}
		left -= n
	}
	a, err = c.do("PUT", a.header.Get("Location")+"&digest="+b.digest, nil, "application/octet-stream")
	return err == nil && a.status == http.StatusCreated
}

func (c *chaosClient) randomTag() string { return fmt.Sprintf("tag%d", c.random.IntN(12)) }

// putTag stores the manifest of an image under a tag.
func (c *chaosClient) putTag(tag string, i *image) bool {
	a, err := c.do("PUT", c.path("manifests", tag), bytes.NewReader(i.manifest), manifestType)
	if err == nil && a.status == http.StatusCreated {
		i.state = there
		c.tags[tag] = []*image{i}
		return true
	}
	if i.state == gone {
		i.state = perhaps
	}
	c.may(tag, i)
	return false
}

// may says that a tag stands for an image, or for what it stood for before.
func (c *chaosClient) may(tag string, i *image) {
	states, known := c.tags[tag]
	if !known {
		states = []*image{nil}
	}
	if !slices.Contains(states, i) {
		states = append(slices.Clone(states), i)
	}
	c.tags[tag] = states
}

// randomImage is one that is there.
func (c *chaosClient) randomImage() *image {
	var list []*image
	for _, i := range c.images {
		if i.state == there {
			list = append(list, i)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[c.random.IntN(len(list))]
}

func (c *chaosClient) retag() {
	if i := c.randomImage(); i != nil {
		c.count("tag", c.putTag(c.randomTag(), i))
	}
}

// delete deletes a tag, or an image with all of its tags.
func (c *chaosClient) delete(onlyTag bool) error {
	if onlyTag {
		tag := c.randomTag()
		states := c.tags[tag]
		if len(states) != 1 || states[0] == nil || states[0].state != there {
			return nil
		}
		a, err := c.do("DELETE", c.path("manifests", tag), nil, "")
		switch {
		case err == nil && a.status == http.StatusAccepted:
			c.tags[tag] = []*image{nil}
			c.count("delete", true)
		case err == nil && a.status == http.StatusNotFound:
			return fmt.Errorf("tag %s is gone: %s", tag, a.body)
		default:
			c.may(tag, nil)
			c.count("delete", false)
		}
		return nil
	}
	i := c.randomImage()
	if i == nil {
		return nil
	}
	a, err := c.do("DELETE", c.path("manifests", i.digest), nil, "")
	switch {
	case err == nil && a.status == http.StatusAccepted:
		i.state = gone
		for tag, states := range c.tags {
			if at := slices.Index(states, i); at >= 0 {
				c.tags[tag] = slices.Replace(slices.Clone(states), at, at+1, (*image)(nil))
			}
		}
		c.count("delete", true)
	case err == nil && a.status == http.StatusNotFound:
		return fmt.Errorf("image %s is gone: %s", i.digest, a.body)
	default:
		i.state = perhaps
		for tag, states := range c.tags {
			if slices.Contains(states, i) {
				c.may(tag, nil)
			}
		}
		c.count("delete", false)
	}
	return nil
}

// pull pulls what a tag stands for. The registry may refuse, or break off; what
// it says must be true.
func (c *chaosClient) pull() error {
	tag := c.randomTag()
	if _, known := c.tags[tag]; !known {
		return nil
	}
	ok, err := c.pullTag(tag)
	c.count("pull", ok)
	return err
}

// pullTag reports false when the registry could not serve.
func (c *chaosClient) pullTag(tag string) (ok bool, err error) {
	a, err := c.do("GET", c.path("manifests", tag), nil, "")
	if err != nil || a.status >= 500 {
		return false, nil
	}
	states := c.tags[tag]
	switch {
	case a.status == http.StatusNotFound:
		if slices.ContainsFunc(states, func(i *image) bool { return i == nil || i.state != there }) {
			return true, nil
		}
		return false, fmt.Errorf("tag %s is lost: %s", tag, a.body)
	case a.status != http.StatusOK:
		return false, fmt.Errorf("tag %s: status %d: %s", tag, a.status, a.body)
	}
	for _, i := range states {
		if i != nil && i.state != gone && bytes.Equal(i.manifest, a.body) {
			return c.pullBlobs(i)
		}
	}
	return false, fmt.Errorf("tag %s stands for something else: %s", tag, a.body)
}

func (c *chaosClient) pullBlobs(i *image) (ok bool, err error) {
	for _, b := range i.blobs {
		a, err := c.do("GET", c.path("blobs", b.digest), nil, "")
		switch {
		case err != nil || a.status >= 500:
			return false, nil
		case a.status != http.StatusOK:
			return false, fmt.Errorf("blob %s of image %s is lost: status %d: %s", b.digest, i.digest, a.status, a.body)
		}
		want, _ := io.ReadAll(b.content())
		if !bytes.Equal(want, a.body) {
			return false, fmt.Errorf("blob %s of image %s: %d wrong bytes came, of %d", b.digest, i.digest, len(a.body), b.size)
		}
	}
	return true, nil
}

// verify checks everything that the client remembers. By now the registry must
// be able to serve.
func (c *chaosClient) verify() error {
	listed, err := c.listedTags()
	if err != nil {
		return err
	}
	for tag, states := range c.tags {
		if ok, err := c.pullTag(tag); err != nil || !ok {
			return fmt.Errorf("%s: tag %s cannot be pulled: %w", c.repo, tag, err)
		}
		if isListed := slices.Contains(listed, tag); len(states) == 1 && isListed != (states[0] != nil) {
			return fmt.Errorf("%s: tag %s: listed is %v", c.repo, tag, isListed)
		}
	}
	for _, i := range c.images {
		a, err := c.do("GET", c.path("manifests", i.digest), nil, "")
		switch {
		case err != nil || a.status != http.StatusOK && a.status != http.StatusNotFound:
			return fmt.Errorf("%s: image %s cannot be pulled: %w: status %d: %s", c.repo, i.digest, err, a.status, a.body)
		case a.status == http.StatusOK && i.state == gone:
			return fmt.Errorf("%s: image %s is back", c.repo, i.digest)
		case a.status == http.StatusNotFound && i.state == there:
			return fmt.Errorf("%s: image %s is lost: %s", c.repo, i.digest, a.body)
		case a.status == http.StatusNotFound:
			continue
		case !bytes.Equal(i.manifest, a.body):
			return fmt.Errorf("%s: image %s has another manifest: %s", c.repo, i.digest, a.body)
		}
		if ok, err := c.pullBlobs(i); err != nil || !ok {
			return fmt.Errorf("%s: image %s cannot be pulled whole: %w", c.repo, i.digest, err)
		}
	}
	return nil
}

func (c *chaosClient) listedTags() ([]string, error) {
	a, err := c.do("GET", c.path("tags", "list"), nil, "")
	if err != nil || a.status != http.StatusOK {
		return nil, fmt.Errorf("%s: tags cannot be listed: %w: status %d: %s", c.repo, err, a.status, a.body)
	}
	var list struct{ Tags []string }
	return list.Tags, json.Unmarshal(a.body, &list)
}
