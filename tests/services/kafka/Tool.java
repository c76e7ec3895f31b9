import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * What tests ask of a broker, by Apache's own clients. Takes commands on standard input, one JSON
 * object a line, and answers each with a line: {"ok": ...} or {"error": "..."}.
 *
 * <p>Every command but "guard" names its "broker":
 * <ul>
 *   <li>"guard": a process id; that process, the broker, ends when standard input does or when this
 *       process is ended, so that it never outlives the tests
 *   <li>"create": a topic, with "partitions" and "config"
 *   <li>"grow": a topic, to "partitions"
 *   <li>"delete": a topic
 *   <li>"trim": a topic, its "partition" up to "offset"
 *   <li>"ends": a topic; answers with the end offset of each partition
 *   <li>"user": a user of SCRAM, by "mechanism" with "password"
 *   <li>"commit": a topic, "group" and its "offsets" by partition
 *   <li>"committed": a topic, "group"; answers with its offset of each partition, or null
 *   <li>"lines": a topic, from "file": each line a record, line n to partition n modulo "partitions"
 *       (or by the producer, where "key" names a string field of the lines), by "compression"
 *   <li>"records": a topic, from "file": each line an object of "partition", "key", "value" (text or
 *       null), "headers" (an object) and "timestamp"; with "transaction": "commit" or "abort"
 * </ul>
 */
public final class Tool {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static volatile long guarded = 0;

    public static void main(String[] arguments) throws Exception {
        Runtime.getRuntime().addShutdownHook(new Thread(Tool::endGuarded));
        BufferedReader commands =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            Map<String, Object> answer = new HashMap<>();
            try {
                answer.put("ok", run(JSON.readTree(line)));
            } catch (Exception error) {
                Throwable cause = error.getCause() == null ? error : error.getCause();
                answer.put("error", cause.toString());
            }
            System.out.println(JSON.writeValueAsString(answer));
            System.out.flush();
        }
    }

    /** However this process ends, unless by SIGKILL: the broker ends first. */
    private static void endGuarded() {
        if (guarded != 0) {
            ProcessHandle.of(guarded).ifPresent(ProcessHandle::destroyForcibly);
        }
    }

    private static Object run(JsonNode command) throws Exception {
        if (command.has("guard")) {
            guarded = command.get("guard").asLong();
            return guarded;
        }
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", command.get("broker").asText());
        if (command.has("lines")) {
            return lines(command, settings);
        }
        if (command.has("records")) {
            return records(command, settings);
        }
        try (Admin admin = Admin.create(settings)) {
            return administer(command, admin);
        }
    }

    private static Object administer(JsonNode command, Admin admin) throws Exception {
        if (command.has("create")) {
            String topic = command.get("create").asText();
            Map<String, String> config = new HashMap<>();
            JsonNode asked = command.path("config");
            asked.fieldNames().forEachRemaining(name -> config.put(name, asked.get(name).asText()));
            NewTopic made = new NewTopic(
                topic, Optional.of(command.get("partitions").asInt()), Optional.empty());
            admin.createTopics(List.of(made.configs(config))).all().get();
            awaitPartitions(topic, command.get("partitions").asInt(), admin);
            return topic;
        }
        if (command.has("grow")) {
            String topic = command.get("grow").asText();
            NewPartitions more = NewPartitions.increaseTo(command.get("partitions").asInt());
            admin.createPartitions(Map.of(topic, more)).all().get();
            awaitPartitions(topic, command.get("partitions").asInt(), admin);
            return topic;
        }
        if (command.has("delete")) {
            String topic = command.get("delete").asText();
            admin.deleteTopics(List.of(topic)).all().get();
            return topic;
        }
        if (command.has("trim")) {
            TopicPartition at = new TopicPartition(
                command.get("trim").asText(), command.get("partition").asInt());
            RecordsToDelete before = RecordsToDelete.beforeOffset(command.get("offset").asLong());
            return admin.deleteRecords(Map.of(at, before)).lowWatermarks().get(at).get()
                .lowWatermark();
        }
        if (command.has("user")) {
            ScramCredentialInfo made = new ScramCredentialInfo(
                ScramMechanism.fromMechanismName(command.get("mechanism").asText()), 4096);
            admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(
                command.get("user").asText(), made, command.get("password").asText()))).all().get();
            return true;
        }
        if (command.has("commit")) {
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
            for (JsonNode offset : command.get("offsets")) {
                offsets.put(new TopicPartition(command.get("commit").asText(), offsets.size()),
                    new OffsetAndMetadata(offset.asLong()));
            }
            admin.alterConsumerGroupOffsets(command.get("group").asText(), offsets).all().get();
            return offsets.size();
        }
        if (command.has("committed")) {
            String topic = command.get("committed").asText();
            Map<TopicPartition, OffsetAndMetadata> offsets =
                admin.listConsumerGroupOffsets(command.get("group").asText())
                    .partitionsToOffsetAndMetadata().get();
            Long[] found = new Long[partitions(topic, admin)];
            offsets.forEach((at, offset) -> {
                if (at.topic().equals(topic) && offset != null) {
                    found[at.partition()] = offset.offset();
                }
            });
            return found;
        }
        String topic = command.get("ends").asText();
        int partitions = partitions(topic, admin);
        long[] ends = new long[partitions];
        for (int partition = 0; partition < partitions; partition++) {
            TopicPartition at = new TopicPartition(topic, partition);
            ends[partition] =
                admin.listOffsets(Map.of(at, OffsetSpec.latest())).partitionResult(at).get()
                    .offset();
        }
        return ends;
    }

    /**
     * Waits until the broker serves all partitions. A producer that writes to one before may wait
     * for its first batch until it times out.
     */
    private static void awaitPartitions(String topic, int partitions, Admin admin)
        throws Exception {
        Map<TopicPartition, OffsetSpec> all = new HashMap<>();
        for (int partition = 0; partition < partitions; partition++) {
            all.put(new TopicPartition(topic, partition), OffsetSpec.latest());
        }
        for (int attempt = 0; ; attempt++) {
            try {
                admin.listOffsets(all).all().get();
                return;
            } catch (ExecutionException error) {
                if (!(error.getCause() instanceof RetriableException) || attempt == 1000) {
                    throw error;
                }
                Thread.sleep(20);
            }
        }
    }

    private static int partitions(String topic, Admin admin) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic)
            .partitions().size();
    }

    private static Object lines(JsonNode command, Map<String, Object> settings) throws Exception {
        String topic = command.get("lines").asText();
        String key = command.path("key").asText("");
        int partitions = command.path("partitions").asInt(1);
        settings.put("compression.type", command.path("compression").asText("lz4"));
        settings.put("linger.ms", 5);
        settings.put("batch.size", 256 * 1024);
        long sent = 0;
        AtomicReference<Exception> failed = new AtomicReference<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(settings);
             BufferedReader file = Files.newBufferedReader(Path.of(command.get("file").asText()))) {
            for (String line = file.readLine(); line != null; line = file.readLine()) {
                byte[] value = line.getBytes(StandardCharsets.UTF_8);
                ProducerRecord<byte[], byte[]> record = key.isEmpty()
                    ? new ProducerRecord<>(topic, (int) (sent % partitions), null, value)
                    : new ProducerRecord<>(topic, field(line, key), value);
                producer.send(record, (at, error) -> {
                    if (error != null) {
                        failed.set(error);
                    }
                });
                sent++;
            }
            producer.flush();
        }
        if (failed.get() != null) {
            throw failed.get();
        }
        return sent;
    }

    private static Object records(JsonNode command, Map<String, Object> settings) throws Exception {
        String topic = command.get("records").asText();
        String transaction = command.path("transaction").asText("");
        settings.put("compression.type", command.path("compression").asText("none"));
        settings.put("max.request.size", 64 * 1024 * 1024);
        settings.put("buffer.memory", 64 * 1024 * 1024);
        if (!transaction.isEmpty()) {
            settings.put("transactional.id", "tool");
        }
        long sent = 0;
        try (KafkaProducer<byte[], byte[]> producer = producer(settings);
             BufferedReader file = Files.newBufferedReader(Path.of(command.get("file").asText()))) {
            if (!transaction.isEmpty()) {
                producer.initTransactions();
                producer.beginTransaction();
            }
            for (String line = file.readLine(); line != null; line = file.readLine()) {
                producer.send(record(topic, JSON.readTree(line))).get();
                sent++;
            }
            switch (transaction) {
                case "" -> producer.flush();
                case "commit" -> producer.commitTransaction();
                case "abort" -> producer.abortTransaction();
                default -> throw new IllegalArgumentException("transaction: " + transaction);
            }
        }
        return sent;
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, JsonNode from) {
        Integer partition = from.has("partition") ? from.get("partition").asInt() : null;
        Long timestamp = from.has("timestamp") ? from.get("timestamp").asLong() : null;
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(
            topic, partition, timestamp, text(from.path("key")), text(from.path("value")));
        JsonNode headers = from.path("headers");
        headers.fieldNames().forEachRemaining(
            name -> record.headers().add(name, text(headers.get(name))));
        return record;
    }

    private static byte[] text(JsonNode node) {
        boolean absent = node.isNull() || node.isMissingNode();
        return absent ? null : node.asText().getBytes(StandardCharsets.UTF_8);
    }

    /** The value of a string field of a line; lines come by the million, so they are not parsed. */
    private static byte[] field(String line, String name) {
        int at = line.indexOf("\"" + name + "\":\"");
        int from = at + name.length() + 4;
        return at < 0
            ? null
            : line.substring(from, line.indexOf('"', from)).getBytes(StandardCharsets.UTF_8);
    }

    private static KafkaProducer<byte[], byte[]> producer(Map<String, Object> settings) {
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }
}
