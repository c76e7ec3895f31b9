import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.common.serialization.SimpleStringEncoder;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.file.sink.FileSink;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.file.src.reader.TextLineInputFormat;
import org.apache.flink.core.fs.Path;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.filesystem.OutputFileConfig;
import org.apache.flink.streaming.api.functions.sink.filesystem.bucketassigners.BasePathBucketAssigner;
import org.apache.flink.streaming.api.functions.sink.filesystem.rollingpolicies.OnCheckpointRollingPolicy;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** The job of job.yaml in Flink: Fleet10m INPUT FOLDER PARALLELISM, exactly once, with checkpoints. */
public final class Fleet10m {
    private Fleet10m() {}

    public static void main(String[] arguments) throws Exception {
        Path input = new Path(arguments[0]);
        String folder = arguments[1];
        Configuration configuration = new Configuration();
        configuration.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, "file://" + folder + "/checkpoints");
        StreamExecutionEnvironment environment =
                StreamExecutionEnvironment.getExecutionEnvironment(configuration);
        environment.setRuntimeMode(RuntimeExecutionMode.STREAMING);
        environment.setParallelism(Integer.parseInt(arguments[2]));
        environment.enableCheckpointing(10_000);
        environment.getConfig().enableObjectReuse();

        FileSource<String> source = FileSource.forRecordStreamFormat(new TextLineInputFormat(), input).build();
        WatermarkStrategy<Report> time =
                WatermarkStrategy.<Report>forBoundedOutOfOrderness(Duration.ofSeconds(1))
                        .withTimestampAssigner((report, before) -> report.ts);
        FileSink<String> sink =
                FileSink.forRowFormat(new Path("file://" + folder + "/per-device"), new SimpleStringEncoder<String>())
                        .withRollingPolicy(OnCheckpointRollingPolicy.build())
                        .withBucketAssigner(new BasePathBucketAssigner<>())
                        .withOutputFileConfig(OutputFileConfig.builder().withPartSuffix(".jsonl").build())
                        .build();
        environment
                .fromSource(source, WatermarkStrategy.noWatermarks(), "reports")
                .map(new Parse())
                .assignTimestampsAndWatermarks(time)
                .keyBy(report -> report.deviceId)
                .window(TumblingEventTimeWindows.of(Duration.ofSeconds(10)))
                .aggregate(new Summarize(), new Write())
                .sinkTo(sink);
        environment.execute("fleet10m");
    }

    /** One event, of what the job asks for. */
    public static final class Report {
        public String deviceId;
        public long ts;
        public double speedKmh;
    }

    /** What is kept of a device in a window. */
    public static final class Summary {
        public long reports;
        public double sum;
        public double slowest = Double.POSITIVE_INFINITY;
        public double fastest = Double.NEGATIVE_INFINITY;
    }

    /** A line as an event. */
    public static final class Parse implements MapFunction<String, Report> {
        private static final JsonFactory JSON = new JsonFactory();

        @Override
        public Report map(String line) throws IOException {
            Report report = new Report();
            try (JsonParser parser = JSON.createParser(line)) {
                parser.nextToken();
                while (parser.nextToken() == JsonToken.FIELD_NAME) {
                    String field = parser.currentName();
                    parser.nextToken();
                    switch (field) {
                        case "device_id" -> report.deviceId = parser.getText();
                        case "ts" -> report.ts = parser.getLongValue();
                        case "speed_kmh" -> report.speedKmh = parser.getDoubleValue();
                        default -> parser.skipChildren();
                    }
                }
            }
            return report;
        }
    }

    /** Count, sum, least and greatest. */
    public static final class Summarize implements AggregateFunction<Report, Summary, Summary> {
        @Override
        public Summary createAccumulator() {
            return new Summary();
        }

        @Override
        public Summary add(Report report, Summary summary) {
            summary.reports += 1;
            summary.sum += report.speedKmh;
            summary.slowest = Math.min(summary.slowest, report.speedKmh);
            summary.fastest = Math.max(summary.fastest, report.speedKmh);
            return summary;
        }

        @Override
        public Summary getResult(Summary summary) {
            return summary;
        }

        @Override
        public Summary merge(Summary one, Summary other) {
            one.reports += other.reports;
            one.sum += other.sum;
            one.slowest = Math.min(one.slowest, other.slowest);
            one.fastest = Math.max(one.fastest, other.fastest);
            return one;
        }
    }

    /** A result as a line. */
    public static final class Write extends ProcessWindowFunction<Summary, String, String, TimeWindow> {
        @Override
        public void process(String device, Context context, Iterable<Summary> summaries, Collector<String> out) {
            for (Summary summary : summaries) {
                out.collect(
                        "{\"window_start\":\"" + Instant.ofEpochMilli(context.window().getStart())
                                + "\",\"window_end\":\"" + Instant.ofEpochMilli(context.window().getEnd())
                                + "\",\"device_id\":\"" + device
                                + "\",\"reports\":" + summary.reports
                                + ",\"mean\":" + summary.sum / summary.reports
                                + ",\"slowest\":" + summary.slowest
                                + ",\"fastest\":" + summary.fastest + "}");
            }
        }
    }
}
