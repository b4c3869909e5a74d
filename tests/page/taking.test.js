import assert from "node:assert/strict";
import { test } from "node:test";
import { readProject, writeProject } from "../../examples/web/teach/project_file.js";
import { zipped } from "../../examples/web/teach/zip.js";
import { BrowserProject, MemoryDatabase, Taking, browserStore } from "./browser_project.js";

/** A file as it comes from a folder of that name, or as it was chosen alone. */
function fileAt(path, content = "") {
  const file = new File([content], path.split("/").at(-1));
  const isInFolder = path.includes("/");
  return Object.defineProperty(file, "webkitRelativePath", { value: isInFolder ? path : "" });
}

/** A project file with one box in each photo, which begins at the number that is given. */
function projectFile(path, edges) {
  const names = Object.keys(edges);
  const content = {
    images: names.map((name, id) => ({ id, file_name: name, width: 100, height: 60 })),
    annotations: names.map((name, id) => ({ id, image_id: id, category_id: 1, bbox: [edges[name], 0, 10, 10] })),
    categories: [{ id: 1, name: "cup" }],
  };
  return fileAt(path, JSON.stringify(content));
}

/** A project, and the photos in it: [name, where its box begins, or null if it has none]. */
function makeTaking() {
  const project = new BrowserProject(new MemoryDatabase());
  let told = "";
  return {
    project,
    taking: new Taking(project, {}, (text) => (told = text)),
    told: () => told,
    added: async () => (await project.photos()).map(({ name, boxes }) => [name, boxes[0]?.box[0] ?? null]),
    labels: async () => (await project.photos()).flatMap(({ boxes }) => boxes.map(({ label }) => label)),
    /** What a person has who saves the project and opens it again. */
    reopened: async () => readProject(writeProject(await project.photos(), await project.labels())),
  };
}

test("blanks around the name of a class are no part of it", () => {
  const image = { id: 1, file_name: "1.jpg", width: 100, height: 60 };
  const categories = [{ id: 1, name: "cup " }, { id: 2, name: "me\u0301tal" }];
  const annotations = categories.map(({ id }) => ({ id, image_id: 1, category_id: id, bbox: [0, 0, 10, 10] }));
  const { labels, photos } = readProject(JSON.stringify({ images: [image], annotations, categories }));
  assert.deepEqual(labels, ["cup", "métal"]);
  const written = JSON.parse(writeProject([{ ...image, name: "1.jpg", ...photos.get("1.jpg") }], labels));
  assert.deepEqual(written.annotations.map(({ category_id }) => category_id), [1, 2]);
  const blank = [{ id: 1, name: " " }];
  assert.throws(() => readProject(JSON.stringify({ images: [], annotations: [], categories: blank })), /without a name/);
});

for (const name of ["./a/Küche.jpg", ".\\a\\Küche.jpg", "a//Ku\u0308che.jpg"]) {
  test(`${JSON.stringify(name)} of another tool is the photo a/Küche.jpg, be its name spelled this way or that`, async () => {
    for (const path of ["all/a/Küche.jpg", "all/a/Ku\u0308che.jpg"]) {
      const { taking, added } = makeTaking();
      await taking.take([projectFile("all/annotations.json", { [name]: 3 }), fileAt(path)]);
      assert.deepEqual(await added(), [["a/Küche.jpg", 3]]);
    }
  });
}

test("a photo that is here already gets the boxes of a project file that spells its name otherwise", async () => {
  const { taking, added, told } = makeTaking();
  await taking.take([fileAt("Ku\u0308che.jpg")]);
  await taking.take([projectFile("a.json", { "./Küche.jpg": 3 })]);
  assert.deepEqual(await added(), [["Ku\u0308che.jpg", 3]]);
  assert.equal(told(), "");
});

test("of several project files none is forgotten, be they taken at once or one after the other", async () => {
  const { taking, added, told } = makeTaking();
  await taking.take([projectFile("a.json", { "1.jpg": 1 }), projectFile("b.json", { "2.jpg": 2 })]);
  await taking.take([projectFile("c.json", { "3.jpg": 3 })]);
  assert.match(told(), /^3 photos are of the project file/);
  await taking.take(["1.jpg", "2.jpg", "3.jpg"].map((name) => fileAt(name)));
  assert.deepEqual(await added(), [["1.jpg", 1], ["2.jpg", 2], ["3.jpg", 3]]);
});

test("photos of one name in two folders get the boxes of the project file in their own", async () => {
  const { taking, added } = makeTaking();
  const files = ["all/a/1.jpg", "all/b/1.jpg"].map((path) => fileAt(path));
  const projects = [1, 2].map((edge) => projectFile(`all/${"ab"[edge - 1]}/annotations.json`, { "1.jpg": edge }));
  await taking.take([...files, ...projects]);
  assert.deepEqual(await added(), [["1.jpg", 1], ["1-2.jpg", 2]]);
});

test("a photo of another folder does not get the boxes of one that is missing", async () => {
  const { taking, added } = makeTaking();
  const others = ["all/b/1.jpg", "all/a/2.jpg"].map((path) => fileAt(path));
  await taking.take([...others, projectFile("all/a/annotations.json", { "1.jpg": 1, "2.jpg": 2 })]);
  assert.deepEqual(await added(), [["2.jpg", 2], ["b/1.jpg", null]]);
});

test("a folder is known by its end, and a photo without one by its name", async () => {
  for (const [stated, path] of [["train/1.jpg", "train/1.jpg"], ["1.jpg", "all/train/1.jpg"], ["x/1.jpg", "1.jpg"]]) {
    const { taking, added } = makeTaking();
    await taking.take([projectFile("a.json", { [stated]: 7 })]);
    await taking.take([fileAt(path)]);
    assert.deepEqual(await added(), [[stated, 7]]);
  }
});

const SEVERAL = /^1\.jpg is not added, as there are several of this name; add the whole folder, or give it another name/;

test("a photo that may be one of several in the project file gets no other's boxes, but its own with its folder", async () => {
  for (const names of [{ "a/1.jpg": 1, "b/1.jpg": 2 }, { "1.jpg": 1, "b/1.jpg": 2 }]) {
    const { taking, added, told } = makeTaking();
    await taking.take([projectFile("a.json", names)]);
    await taking.take([fileAt("1.jpg")]);
    assert.deepEqual(await added(), []);
    assert.match(told(), SEVERAL);
    const [first, second] = Object.keys(names);
    await taking.take([fileAt(`all/${second}`)]);
    await taking.take([fileAt("1.jpg")]); // which is either, though only one is still to come
    assert.deepEqual(await added(), [[second, 2]]);
    assert.match(told(), SEVERAL);
    await taking.take([fileAt(`all/${first}`)]);
    await taking.take([fileAt("1.jpg", "another")]); // all boxes have their photos: it is one more
    assert.deepEqual((await added()).map(([, edge]) => edge), [2, 1, null]);
    assert.equal(told(), "");
  }
});

test("a folder that is chosen without the one above gets the boxes of its own photos", async () => {
  const { taking, added } = makeTaking();
  await taking.take([projectFile("a.json", { "train/1.jpg": 1, "val/1.jpg": 2, "x/test/1.jpg": 3, "x/1.jpg": 4 })]);
  for (const folder of ["val", "test", "train"]) await taking.take([fileAt(`${folder}/1.jpg`)]);
  assert.deepEqual(await added(), [["val/1.jpg", 2], ["x/test/1.jpg", 3], ["train/1.jpg", 1]]);
});

test("a folder that may be the one of the project file or one in it gets no boxes of the other", async () => {
  const { taking, added, told } = makeTaking();
  await taking.take([projectFile("a.json", { "1.jpg": 1, "a/1.jpg": 2 })]);
  await taking.take([fileAt("a/1.jpg")]);
  assert.deepEqual(await added(), []);
  assert.match(told(), SEVERAL);
  await taking.take(["all/a/1.jpg", "all/1.jpg"].map((path) => fileAt(path)));
  assert.deepEqual(await added(), [["1.jpg", 1], ["a/1.jpg", 2]]);
});

test("of several photos that may be the one in the project file none gets its boxes but the one in its place", async () => {
  const { taking, added, told } = makeTaking();
  await taking.take([projectFile("a.json", { "1.jpg": 1 })]);
  await taking.take(["all/b/1.jpg", "all/c/1.jpg"].map((path) => fileAt(path)));
  assert.deepEqual(await added(), []);
  assert.match(told(), /^1\.jpg and 1 more are not added, as there are several of this name/);
  await taking.take(["all/b/1.jpg", "all/c/1.jpg", "all/1.jpg"].map((path) => fileAt(path)));
  assert.deepEqual(await added(), [["1.jpg", 1], ["b/1.jpg", null], ["c/1.jpg", null]]);
});

test("a project file that comes after its photos gives boxes to those that it means alone", async () => {
  const paths = ["all/a/1.jpg", "all/b/1.jpg"];
  for (const [given, names, edges] of [
    [paths, { "b/1.jpg": 2, "a/1.jpg": 1 }, [1, 2]],
    [paths, { "1.jpg": 7 }, [null, null]],
    [["all/images/1.jpg"], { "1.jpg": 7 }, [7]],
    [["1.jpg"], { "1.jpg": 7 }, [7]],
    [["1.jpg"], { "1.jpg": 7, "a/1.jpg": 8 }, [null]],
    [["1.jpg", "all/a/1.jpg"], { "1.jpg": 7, "a/1.jpg": 8 }, [7, 8]],
  ]) {
    const { taking, added, told } = makeTaking();
    for (const path of given) await taking.take([fileAt(path)]);
    await taking.take([projectFile("a.json", names)]);
    assert.deepEqual((await added()).map(([, edge]) => edge), edges);
    assert.equal(/1\.jpg.* not given boxes, as there are several of this name/.test(told()), edges.includes(null));
  }
});

test("a project file in a folder without photos speaks of those beside it", async () => {
  const { taking, added } = makeTaking();
  await taking.take([fileAt("all/images/1.jpg"), projectFile("all/boxes/annotations.json", { "1.jpg": 7 })]);
  assert.deepEqual(await added(), [["1.jpg", 7]]);
});

test("a folder or ZIP that is added again adds only what is new", async () => {
  const { project, taking, added, told } = makeTaking();
  const zip = async (...entries) => new File([await zipped(entries)], "photos.zip");
  const packed = { name: "a/3.jpg", blob: new Blob(["three"]) };
  const paths = ["all/1.jpg", "all/2.jpg"];
  const folder = paths.map((path) => fileAt(path, path));
  await taking.take([...folder, await zip(packed)]);
  await taking.take(["all/1.jpg"].map((path) => fileAt(path, "another"))); // it is kept, as 1-2.jpg
  const names = ["1.jpg", "2.jpg", "a/3.jpg", "1-2.jpg"];
  assert.deepEqual((await added()).map(([name]) => name), names);

  const again = [fileAt("all/1.jpg", "another"), ...paths.map((path) => fileAt(path, path))];
  await taking.take([...again, await zip(packed, { name: "4.jpg", blob: new Blob(["four"]) })]);
  assert.deepEqual((await added()).map(([name]) => name), [...names, "4.jpg"]);
  assert.equal(told(), "4 photos are here already, and not added again");

  const [{ id }] = await project.photos();
  await project.setTrashed(id, true);
  await taking.take([fileAt("1.jpg", "all/1.jpg")]); // what was deleted can be added again
  assert.deepEqual((await added()).at(-1), ["1-3.jpg", null]);
});

test("photos of the camera are all added, be they of one second and alike", async () => {
  const { taking, added, told } = makeTaking();
  for (let time = 0; time < 2; time++) await taking.take([fileAt("1.jpg")], true);
  assert.deepEqual((await added()).map(([name]) => name), ["1.jpg", "1-2.jpg"]);
  assert.equal(told(), "");
});

test("a project with its photos that is opened again adds none of them twice", async () => {
  const { taking, added } = makeTaking();
  const open = () => taking.take([projectFile("all/annotations.json", { "1.jpg": 1 }), fileAt("all/1.jpg"), fileAt("all/2.jpg")]);
  await open();
  await open();
  assert.deepEqual(await added(), [["1.jpg", 1], ["2.jpg", null]]);
});

/** A photo and a project file with its box, as a ZIP. */
async function projectZip(photo, edge) {
  const entries = [{ name: "1.jpg", blob: new Blob([photo]) }];
  entries.push({ name: "annotations.json", blob: projectFile("annotations.json", { "1.jpg": edge }) });
  return new File([await zipped(entries)], "project.zip");
}

test("a project with its photos gives its boxes to these, and not to others of their names that are here", async () => {
  for (const isDrawn of [false, true]) {
    const { project, taking, added, told } = makeTaking();
    await taking.take([fileAt("1.jpg", "mine")]);
    const box = { id: "k", box: [50, 0, 60, 10], label: "lid", ignore: false };
    if (isDrawn) await project.patch((await project.photos())[0].id, { put: [box] });
    const mine = ["1.jpg", isDrawn ? 50 : null];
    await taking.take([await projectZip("theirs", 1)]);
    assert.deepEqual(await added(), [mine, ["1-2.jpg", 1]]);
    await taking.take([await projectZip("theirs", 1)]);
    assert.deepEqual(await added(), [mine, ["1-2.jpg", 1]]);
    assert.equal(told(), "1 photo is here already, and not added again");
    await taking.take([fileAt("all/1.jpg", "third"), projectFile("all/annotations.json", { "1.jpg": 2 })]); // a folder
    assert.deepEqual(await added(), [mine, ["1-2.jpg", 1], ["1-3.jpg", 2]]);
  }
});

test("a photo that is here and comes with its project is not added again, and gets its box", async () => {
  const { taking, added } = makeTaking();
  await taking.take([fileAt("1.jpg", "mine"), fileAt("more/1.jpg", "theirs")]);
  await taking.take([await projectZip("mine", 3)]);
  assert.deepEqual(await added(), [["1.jpg", 3], ["1-2.jpg", null]]);
});

test("what a project file tells of photos to come stays when that of another project names photos alike", async () => {
  const { project, taking, added, told } = makeTaking();
  await taking.take([projectFile("a.json", { "1.jpg": 1, "2.jpg": 2 })]);
  await taking.take([projectFile("b.json", { "1.jpg": 5, "2.jpg": 2 })]);
  assert.equal(told(), "1.jpg: what another project file told before stays; 2 photos are of the project file still to be added");
  await taking.take([await projectZip("theirs", 7)]);
  assert.deepEqual(await added(), [["1.jpg", 7]]);
  assert.equal((await project.awaited()).size, 2);
  await taking.take([fileAt("1.jpg", "mine"), fileAt("2.jpg")]);
  assert.deepEqual(await added(), [["1.jpg", 7], ["1-2.jpg", 1], ["2.jpg", 2]]);
  assert.equal(told(), "");
});

test("photos of a folder are in natural order, whatever the order in which they come; others as they were chosen", async () => {
  const { taking, added } = makeTaking();
  const paths = ["all/10.jpg", "all/b/1.jpg", "all/IMG_9.jpg", "all/2.jpg", "all/img_10.jpg"];
  await taking.take([...paths, "z.jpg", "y.jpg"].map((path) => fileAt(path)));
  const names = ["z.jpg", "y.jpg", "2.jpg", "10.jpg", "b/1.jpg", "IMG_9.jpg", "img_10.jpg"];
  assert.deepEqual((await added()).map(([name]) => name), names);
});

test("the ZIP of a folder of fewbox annotate brings no photo back that was deleted, and all have their own names", async () => {
  const { taking, added, told } = makeTaking();
  const project = projectFile("annotations.json", { "1.jpg": 1 });
  const names = ["1.jpg", "2.jpg", ".fewbox-trash/3.jpg", ".fewbox-trash/annotations.json", "more/._4.jpg", "more/4.jpg"];
  const entries = names.map((name) => ({ name: `ducks/${name}`, blob: new Blob([name]) }));
  await taking.take([new File([await zipped([{ name: "ducks/annotations.json", blob: project }, ...entries])], "ducks.zip")]);
  const expected = [["1.jpg", 1], ["2.jpg", null], ["more/4.jpg", null]];
  assert.deepEqual(await added(), expected);
  assert.equal(told(), "");

  const folder = makeTaking();
  const files = names.filter((name) => !name.endsWith(".json")).map((name) => fileAt(`ducks/${name}`, name));
  await folder.taking.take([projectFile("ducks/annotations.json", { "1.jpg": 1 }), ...files]);
  assert.deepEqual(await folder.added(), expected);
});

test("boxes of other programs that are rotated or in parts of their photo are refused", () => {
  const read = (...boxes) => {
    const images = [{ id: 1, file_name: "1.jpg" }];
    const annotations = boxes.map((one, index) => ({ id: index, image_id: 1, category_id: 1, ...one }));
    return readProject(JSON.stringify({ images, annotations, categories: [{ id: 1, name: "mug" }] }));
  };
  const bbox = [10, 10, 30, 40];
  for (const rotation of [30, -3, 90, 357, 180]) {
    assert.throws(() => read({ bbox, attributes: { rotation } }), /annotation 0: the box is rotated/);
  }
  for (const rotation of [0, 0.5, 360, 359.5, null, undefined]) {
    assert.equal(read({ bbox, attributes: { rotation } }).photos.get("1.jpg").boxes.length, 1);
  }
  const parts = { bbox: [0.1, 0.2, 0.9000000000000001, 0.7] };
  assert.throws(() => read(parts, parts), /within the first two pixels of its photo; these seem to be parts/);
  assert.equal(read(parts, { bbox }).photos.get("1.jpg").boxes.length, 2);
  assert.equal(read({ ...parts, box_id: "k" }).photos.get("1.jpg").boxes.length, 1); // drawn here, as a speck
});

test("boxes that are outside of a photo whose size the file does not say are left out, and it is told", async () => {
  const { taking, added, told } = makeTaking();
  const content = JSON.parse(await projectFile("a.json", { "1.jpg": 50, "2.jpg": 100 }).text());
  for (const image of content.images) delete image.width;
  await taking.take([fileAt("a.json", JSON.stringify(content))]);
  await taking.take(["1.jpg", "2.jpg"].map((name) => fileAt(name)));
  assert.deepEqual(await added(), [["1.jpg", 50], ["2.jpg", null]]);
  assert.match(told(), /2\.jpg: has 100 × 60 pixels, and its boxes reach further; they are left out/);
});

test("a project file that is not certain is refused, with what is wrong", () => {
  const [image, box] = [{ id: 1, file_name: "1.jpg", width: 100, height: 60 }, { image_id: 1, category_id: 1 }];
  const read = (images, boxes, categories = [{ id: 1, name: "cup" }]) =>
    readProject(JSON.stringify({ images, annotations: boxes.map((one) => ({ ...box, ...one })), categories }));
  const good = { id: 1, bbox: [10, 10, 20, 20] };
  const [{ box: moved }] = read([image], [{ id: 1, bbox: [-0.5, 10, 100.9, 20] }]).photos.get("1.jpg").boxes;
  assert.deepEqual(moved, [0, 10, 100, 30]);
  for (const [given, says] of [
    [[[image, { ...image, id: 2 }], [good]], /two images are called 1\.jpg/],
    [[[image, { ...image, file_name: "2.jpg" }], [good]], /two images have the id 1/],
    [[[image], [good], [{ id: 1, name: "cup" }, { id: 1, name: "lid" }]], /two categories have the id 1/],
    [[[image], [{ ...good, box_id: "k" }, { ...good, id: 2, box_id: "k" }]], /annotation 2: another box .* box_id k/],
    [[[image], [{ id: 1, bbox: [10, 10, -5, 20] }]], /annotation 1: bbox has no inside/],
    [[[image], [{ id: 1, bbox: [90, 10, 20, 20] }]], /annotation 1: bbox lies outside of its photo, 100 × 60/],
  ]) assert.throws(() => read(...given), { message: says });
});

test("photos whose names are one, spelled in two ways, get two names, and the saved file opens again", async () => {
  for (const names of [["Küche.jpg", "Ku\u0308che.jpg", "Küche.jpg"], ["a/1.jpg", "a\\1.jpg", "./a/1.jpg"]]) {
    const { project, reopened } = makeTaking();
    for (const name of names) await project.add(fileAt("1.jpg"), name, { width: 100, height: 60 });
    assert.equal((await reopened()).photos.size, 3);
  }
});

const PHOTOS = ["1.jpg", "2.jpg"];

/** A project whose file was opened before its photos, with the classes cup, of two boxes, and lid. */
async function withoutPhotos() {
  const made = makeTaking();
  await made.taking.take([projectFile("a.json", { "1.jpg": 1, "2.jpg": 2 })]);
  await made.project.changeLabels({ labels: ["lid"] });
  return { ...made, addPhotos: () => made.taking.take(PHOTOS.map((name) => fileAt(name))) };
}

for (const [done, change, classes, labels] of [
  ["renamed", { rename: { cup: "mug" } }, ["mug", "lid"], ["mug", "mug"]],
  ["merged", { merge: { cup: "lid" } }, ["lid"], ["lid", "lid"]],
  ["deleted", { delete: ["cup"] }, ["lid"], []],
  ["removed", { remove: ["cup"] }, ["lid"], []],
]) {
  test(`a class that is ${done} before its photos are added is so in them, and in the file that is saved`, async () => {
    const { project, addPhotos, labels: labelsOfBoxes, reopened } = await withoutPhotos();
    await project.changeLabels(change);
    await addPhotos();
    assert.deepEqual(await project.labels(), classes);
    assert.deepEqual(await labelsOfBoxes(), labels);
    assert.deepEqual((await project.photos()).map(({ reviewed }) => reviewed), PHOTOS.map(() => labels.length > 0));
    assert.deepEqual((await reopened()).labels, classes);
  });

  test(`a class that was ${done} before its photos were added comes back with all boxes`, async () => {
    for (const areAddedBetween of [true, false]) {
      const { project, addPhotos, added, labels: labelsOfBoxes } = await withoutPhotos();
      const { lost, before } = await project.changeLabels(change);
      if (areAddedBetween) await addPhotos();
      await project.changeLabels(lost ? { restore: lost } : { rename: { mug: "cup" } });
      for (const [id, back] of before) await project.patch(id, back);
      if (!areAddedBetween) await addPhotos();
      assert.deepEqual(await project.labels(), ["cup", "lid"]);
      assert.deepEqual(await labelsOfBoxes(), ["cup", "cup"]);
      assert.deepEqual(await added(), [["1.jpg", 1], ["2.jpg", 2]]);
      assert.ok((await project.photos()).every(({ reviewed }) => reviewed));
    }
  });
}

test("a class that only boxes to come have is one as soon as their photo is added", async () => {
  const { project, taking, reopened } = makeTaking();
  const boxes = [{ id: "a", box: [0, 0, 9, 9], label: "cup", ignore: false }];
  await project.expect(new Map([["1.jpg", { boxes, reviewed: true, left_out: false }]]), ["1.jpg"]); // by a page of another day
  assert.deepEqual(await browserStore(project, {}).labelCounts(), { cup: [1, 1] });
  await taking.take([fileAt("1.jpg")]);
  assert.deepEqual(await project.labels(), ["cup"]);
  assert.deepEqual((await reopened()).labels, ["cup"]);
});

test("a class that is renamed while photos are being added is renamed in all of them", async () => {
  const { project, addPhotos, labels } = await withoutPhotos();
  const adding = addPhotos();
  await new Promise((resolve) => project.addEventListener("change", resolve, { once: true })); // the first is in
  await project.changeLabels({ rename: { cup: "mug" } });
  await adding;
  assert.deepEqual(await project.labels(), ["mug", "lid"]);
  assert.deepEqual(await labels(), ["mug", "mug"]);
});

test("whoever deletes a class is told of boxes still to come, and photos in the trash have none of it", async () => {
  const { project, taking, labels } = await withoutPhotos();
  await taking.take([fileAt("1.jpg")]);
  assert.deepEqual((await browserStore(project, {}).labelCounts()).cup, [2, 2]);
  const [{ id }] = await project.photos();
  await project.setTrashed(id, true);
  await project.changeLabels({ remove: ["cup"] });
  await project.setTrashed(id, false);
  assert.deepEqual(await project.labels(), ["lid"]);
  assert.deepEqual(await labels(), []);
});
